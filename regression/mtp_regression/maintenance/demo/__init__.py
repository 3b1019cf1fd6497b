"""What unloaded MTP experts do to training: `nox -s demo` measures it, and makes docs/training.md."""

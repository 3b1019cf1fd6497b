"""The readers of files on bytes that a fuzzer makes up."""

"""What the kit costs: beside the alternatives, as the work grows, and in memory: docs/benchmarks.md."""

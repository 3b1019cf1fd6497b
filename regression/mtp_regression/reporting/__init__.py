"""The report of a run: its records, its file, and what people see of it."""

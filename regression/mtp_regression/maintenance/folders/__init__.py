"""Folders that people have: what each reader makes of them (`measure`, `table`), and the page (`page`)."""

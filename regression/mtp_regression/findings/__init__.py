"""What bridges do that they should not: each finding with its reproduction, its patch, and its page."""

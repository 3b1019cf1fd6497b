"""Fixes of what a saved folder is like."""

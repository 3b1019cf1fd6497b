"""Compares tensors by name, shape, dtype and bytes."""

"""Equality of tensors: names, shapes, dtypes and bytes."""

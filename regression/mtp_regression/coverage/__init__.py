"""Checks, without loading a weight, that a load uses every key and fills every parameter."""

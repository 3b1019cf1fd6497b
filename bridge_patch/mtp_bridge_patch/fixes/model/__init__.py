"""Fixes of the model that is built: its layers, and how they are split."""

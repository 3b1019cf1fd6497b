"""Fixes for MTP layers other than the first, and in stages other than the last."""

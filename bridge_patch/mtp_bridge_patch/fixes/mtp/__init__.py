"""Fixes for MTP layers other than the first, in stages other than the last, and switched off."""

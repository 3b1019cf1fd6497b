"""Derives which packages may be deferred."""

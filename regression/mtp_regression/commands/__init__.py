"""The commands of `mtpkit`."""

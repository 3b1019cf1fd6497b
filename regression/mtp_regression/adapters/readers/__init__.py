"""Readers: engines that load what bridges save, and write no checkpoint."""

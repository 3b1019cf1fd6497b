"""Runs the reproductions of findings, with and without their patches, and makes their pages."""

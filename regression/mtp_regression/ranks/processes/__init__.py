"""Processes of ranks: forks of a server, or kept ones, and what happens in each."""

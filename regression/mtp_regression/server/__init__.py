"""A server that has imported a bridge, and outlives the command: the ranks of the next begin as its forks."""

"""Round trips in which one rank fails somewhere: the same failure has the same verdict each time."""

"""What a run found, told once each: which findings are one, how many names are told as one, and where."""

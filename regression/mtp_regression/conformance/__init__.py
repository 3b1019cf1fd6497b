"""The whole suite on one bridge: its checks, by id, and how they run with pytest and without."""

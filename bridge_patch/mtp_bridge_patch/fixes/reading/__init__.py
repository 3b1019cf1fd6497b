"""Where upstream finds a checkpoint's weights: the revision, and the index."""

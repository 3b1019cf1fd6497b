"""A bridge of numpy arrays, without torch, that carries every checkpoint through every parallel layout."""

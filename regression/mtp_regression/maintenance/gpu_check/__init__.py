"""A check of everything that only a GPU can show, short enough for a machine that is lent for minutes."""

"""Bit-exact round trips of MTP checkpoints through a bridge, and the checks that judge them."""

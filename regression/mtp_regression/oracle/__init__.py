"""The value of every parameter on every rank, computed from the checkpoint without any bridge."""

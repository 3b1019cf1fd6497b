"""Which parameters each rank must hold, computed from the checkpoint without any bridge."""

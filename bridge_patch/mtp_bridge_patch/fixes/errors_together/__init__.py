"""Fix ``errors-together``: what one rank raises in a load, an export or a save, all raise."""

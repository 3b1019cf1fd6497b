"""The jobs of those who maintain the kit."""

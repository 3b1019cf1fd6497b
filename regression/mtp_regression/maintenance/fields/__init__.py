"""What each release makes of every field of `config.json`: changes, measurement, known results, page."""

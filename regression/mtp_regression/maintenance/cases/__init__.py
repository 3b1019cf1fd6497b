"""What each release makes of every scenario: run, known results, and their page."""

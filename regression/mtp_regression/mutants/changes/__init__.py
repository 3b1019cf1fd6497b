"""What mutants are made of: replaced conversions, methods and exports."""

"""Whether a load takes every key and fills every parameter, told without a weight."""

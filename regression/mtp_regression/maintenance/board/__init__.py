"""The board: what every bridge that ships with an adapter does with every checkpoint of the suite."""

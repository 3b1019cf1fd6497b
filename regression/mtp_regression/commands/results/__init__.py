"""The commands on what came of a run."""

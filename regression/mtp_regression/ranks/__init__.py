"""Ranks as processes: started from a fork server, or joined under torchrun and Slurm."""

"""Ranks as processes: started from a fork server, or by torchrun or Slurm."""

"""What the suite does with a bridge on each rank: the stages of a case, one module each."""

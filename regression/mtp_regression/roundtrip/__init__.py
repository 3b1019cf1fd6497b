"""A checkpoint through a bridge and back: cases, their stages on the ranks, and the judgement."""

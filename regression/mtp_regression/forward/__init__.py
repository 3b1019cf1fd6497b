"""What a checkpoint's model computes: batches, transformers' logits of them, and how near is equal."""

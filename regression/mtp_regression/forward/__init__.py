"""What a checkpoint's model computes, by transformers: batches, the reference for them, and how near is equal."""

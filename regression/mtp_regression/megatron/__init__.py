"""Megatron-Core on the CPU: stand-ins for CUDA and TransformerEngine, and how a bridge's model is built."""

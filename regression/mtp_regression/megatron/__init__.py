"""Megatron-Core on a CPU: stand-ins for CUDA and TransformerEngine, and the bridge's model."""

"""Stands in for ``megatron.core.models.gpt.gpt_model``."""


class GPTModel:
    """What text-only bridges are registered for."""

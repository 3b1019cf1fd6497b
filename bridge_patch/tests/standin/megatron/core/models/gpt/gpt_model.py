"""Stands in for ``megatron.core.models.gpt.gpt_model``."""

from typing import Any

BUILT: list[type] = []
"""The class of each decoder that was built."""


class TransformerBlock:
    """Decoder layers."""

    def __init__(self, **arguments: Any) -> None:
        del arguments
        BUILT.append(type(self))


class GPTModel:
    """What text-only bridges are registered for, and vision-language models are built on."""

    def __init__(self, config: Any, transformer_layer_spec: Any, **arguments: Any) -> None:
        del arguments
        self.decoder = TransformerBlock(config=config, spec=transformer_layer_spec)

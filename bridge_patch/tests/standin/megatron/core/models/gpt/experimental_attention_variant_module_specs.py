"""Stands in for ``megatron.core.models.gpt.experimental_attention_variant_module_specs``."""

from types import SimpleNamespace
from typing import Any


def get_linear_attention_pattern(config: Any) -> list[int]:
    """Return 1 for each GDN layer; as upstream."""
    freq = config.linear_attention_freq
    if isinstance(freq, list):
        return list(freq)
    return [0 if (layer + 1) % freq == 0 else 1 for layer in range(config.num_layers)]


def get_transformer_block_with_experimental_attention_variant_spec(
    config: Any,
    vp_stage: int | None = None,  # noqa: ARG001
    pp_rank: int | None = None,  # noqa: ARG001
) -> SimpleNamespace:
    """Name the layers of a stage: of the config's `stage`, or all where there is one stage."""
    kinds = ["linear" if linear else "full" for linear in get_linear_attention_pattern(config)]
    layers = range(config.num_layers)
    if config.pipeline_model_parallel_size > 1 or config.pipeline_model_parallel_layout is not None:
        layers = config.stage
    return SimpleNamespace(layer_specs=[f"{kinds[layer]} {layer}" for layer in layers])

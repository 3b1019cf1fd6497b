"""Stands in for ``megatron.core.models.gpt.gpt_layer_specs``."""

from typing import Any


def get_gpt_mtp_block_spec(
    config: Any,
    spec: Any,
    use_transformer_engine: bool,
    vp_stage: int | None = None,
    pp_rank: int | None = None,  # noqa: ARG001
) -> str:
    """Say of which layer the MTP layers are made."""
    assert use_transformer_engine
    return f"{config.mtp_num_layers} like {spec}, chunk {vp_stage}"

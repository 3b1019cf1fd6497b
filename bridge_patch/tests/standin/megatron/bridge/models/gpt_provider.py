"""Stands in for ``megatron.bridge.models.gpt_provider``."""

from typing import Any


def mtp_block_spec(config: Any, vp_stage: int | None = None) -> Any:
    """Make MTP layers like the stage's last decoder layer; as upstream, but for the error's text."""
    if not config.mtp_num_layers:
        return None
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_mtp_block_spec

    spec = config.transformer_layer_spec(config, vp_stage=vp_stage)
    assert spec.layer_specs, "Experimental attention variant is not supported"
    return get_gpt_mtp_block_spec(
        config, spec.layer_specs[-1], use_transformer_engine=True, vp_stage=vp_stage
    )

"""Stands in for ``megatron.core.models.gpt.gpt_layer_specs``."""


def get_gpt_mtp_block_spec(config, spec, use_transformer_engine, vp_stage=None, pp_rank=None):  # noqa: ARG001
    """Say of which layer the MTP layers are made."""
    assert use_transformer_engine
    return f"{config.mtp_num_layers} like {spec}, chunk {vp_stage}"

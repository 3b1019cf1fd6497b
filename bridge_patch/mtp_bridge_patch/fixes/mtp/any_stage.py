"""Fix ``mtp-any-stage``: MTP layers have full attention, whatever decoder layers their pipeline stage has.

``mtp_block_spec`` makes an MTP layer like the last decoder layer of the pipeline stage that it is asked for.
Where that one is linear, MTP layers would be GDN layers, which Megatron-Core refuses. Where the stage has
none, 0.5.x and 0.6.x turn to ``get_gpt_decoder_layer_specs``, which refuses GDN models: no such stage can be
built, whichever stage has MTP. 0.4.x turns to a specification that knows no GDN models. Here they are made
like the last of all decoder layers, as it would be with full attention.
"""

import copy
import functools
from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import installed

_LINEAR = "gated_delta_net"


def install(module: ModuleType) -> Callable[[], None]:
    """Let MTP layers be made with full attention, for models with GDN layers.

    Args:
        module: The imported ``megatron.bridge.models.gpt_provider``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module.mtp_block_spec

    @functools.wraps(upstream)
    def mtp_block_spec(config: Any, vp_stage: int | None = None) -> Any:
        if not _is_hybrid(config):
            return upstream(config, vp_stage=vp_stage)
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_mtp_block_spec

        layer = _with_full_attention(config)
        return get_gpt_mtp_block_spec(config, layer, use_transformer_engine=True, vp_stage=vp_stage)

    return installed(module, mtp_block_spec=mtp_block_spec)


def _is_hybrid(config: Any) -> bool:
    """Whether a model has GDN layers and MTP: those of this family, and Qwen3-Next, which fails alike."""
    return getattr(config, "experimental_attention_variant", None) == _LINEAR and bool(config.mtp_num_layers)


def _with_full_attention(config: Any) -> Any:
    """Return the specification that the decoder's last layer would have with full attention."""
    from megatron.core.models.gpt.experimental_attention_variant_module_specs import (
        get_transformer_block_with_experimental_attention_variant_spec,
    )

    whole = _uncut(config)
    whole.linear_attention_freq = [0] * whole.num_layers
    return get_transformer_block_with_experimental_attention_variant_spec(whole).layer_specs[-1]


def _uncut(config: Any) -> Any:
    """Return the config of the same model in one pipeline stage."""
    whole = copy.copy(config)
    whole.pipeline_model_parallel_size, whole.virtual_pipeline_model_parallel_size = 1, None
    whole.pipeline_model_parallel_layout = None
    whole.num_layers_in_first_pipeline_stage = whole.num_layers_in_last_pipeline_stage = None
    whole.account_for_embedding_in_pipeline_split = whole.account_for_loss_in_pipeline_split = False
    return whole


FIX = Fix(
    id="mtp-any-stage",
    failure="A stage whose last decoder layer is linear, or that has none, crashes the build with MTP.",
    fixed_since=None,
    modules=MappingProxyType({"megatron.bridge.models.gpt_provider": install}),
)

"""Fix ``mtp-any-stage``: a pipeline may have stages without decoder layers, and MTP may be in one of them.

``mtp_block_spec`` makes an MTP layer like the last decoder layer of the pipeline stage that it is asked for.
Where the stage has none, 0.5.x and 0.6.x turn to ``get_gpt_decoder_layer_specs``, which refuses GDN models:
no such stage can be built, whichever stage has MTP. 0.4.x turns to a specification that knows no GDN models.
Here it is made like the last of all decoder layers with full attention, which every MTP layer has.
"""

import copy
import functools
from collections.abc import Callable
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import replaced

_LINEAR = "gated_delta_net"


def install(module: ModuleType) -> Callable[[], None]:
    """Let MTP layers be made like a layer of the whole decoder, for models with GDN layers.

    Args:
        module: The imported ``megatron.bridge.models.gpt_provider``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module.mtp_block_spec

    @functools.wraps(upstream)
    def mtp_block_spec(config: Any, vp_stage: int | None = None) -> Any:
        layer = _last_with_full_attention(config) if _is_hybrid(config) else None
        if layer is None:
            return upstream(config, vp_stage=vp_stage)
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_mtp_block_spec

        return get_gpt_mtp_block_spec(config, layer, use_transformer_engine=True, vp_stage=vp_stage)

    undo = ExitStack()
    undo.enter_context(replaced(module, "mtp_block_spec", mtp_block_spec))
    return undo.close


def _is_hybrid(config: Any) -> bool:
    """Whether a model has GDN layers and MTP: those of this family, and Qwen3-Next, which fails alike."""
    return getattr(config, "experimental_attention_variant", None) == _LINEAR and bool(config.mtp_num_layers)


def _last_with_full_attention(config: Any) -> Any:
    """Return the specification of the decoder's last layer with full attention; None if it has none."""
    from megatron.core.models.gpt.experimental_attention_variant_module_specs import (
        get_linear_attention_pattern,
        get_transformer_block_with_experimental_attention_variant_spec,
    )

    layers = get_transformer_block_with_experimental_attention_variant_spec(_uncut(config)).layer_specs
    linear = get_linear_attention_pattern(config)
    full = [layer for layer, is_linear in zip(layers, linear, strict=True) if not is_linear]
    return full[-1] if full else None


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
    failure="A pipeline stage without decoder layers crashes the build of a model with MTP.",
    fixed_since=None,
    modules=MappingProxyType({"megatron.bridge.models.gpt_provider": install}),
)

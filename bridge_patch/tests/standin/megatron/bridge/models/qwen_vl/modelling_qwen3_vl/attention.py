"""Stands in for ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.attention``."""

from typing import Any

from megatron.bridge.models.qwen_vl.modelling_qwen3_vl.rope import apply_rotary_pos_emb_absolute


def attend(query: Any, freqs: Any, config: Any) -> Any:
    """Rotate a query, as upstream's attention does."""
    return apply_rotary_pos_emb_absolute(query, freqs, config)

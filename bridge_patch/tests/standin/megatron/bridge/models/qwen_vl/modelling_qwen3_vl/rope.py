"""Stands in for ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.rope``."""

from importlib.metadata import version
from typing import Any

if version("megatron-bridge").startswith("0.4."):

    def _apply_rotary_pos_emb_bshd(
        t: Any,
        freqs: Any,
        rotary_interleaved: bool = False,
        multi_latent_attention: bool = False,
        mscale: float = 1.0,
    ) -> tuple[Any, Any, float]:
        """Return what would be rotated, by what, and the factor of cosine and sine."""
        del rotary_interleaved, multi_latent_attention
        return t, freqs, mscale

else:

    def _apply_rotary_pos_emb_bshd(  # type: ignore[misc]
        t: Any,
        freqs: Any,
        rotary_interleaved: bool = False,
        mla_rotary_interleaved: bool = False,
        mscale: float = 1.0,
        multi_latent_attention: bool | None = None,
    ) -> tuple[Any, Any, float]:
        """Return the same."""
        del rotary_interleaved, mla_rotary_interleaved, multi_latent_attention
        return t, freqs, mscale


def apply_rotary_pos_emb_absolute(t: Any, freqs: Any, config: Any, cu_seqlens: Any = None) -> Any:
    """Rotate; as upstream, without a factor."""
    del config, cu_seqlens
    return _apply_rotary_pos_emb_bshd(t, freqs, rotary_interleaved=False)

"""Stands in for ``megatron.bridge.models.gpt_provider``."""

from types import SimpleNamespace
from typing import Any


class Frequencies(tuple[float, ...]):
    """A tensor of one dimension."""

    def new_tensor(self, values: list[float]) -> "Frequencies":
        """Make another."""
        return Frequencies(values)

    def __mul__(self, other: object) -> "Frequencies":
        assert isinstance(other, Frequencies)
        assert len(other) == len(self)
        return Frequencies(one * two for one, two in zip(self, other, strict=True))


class GPTModelProvider:
    """Makes models; its fields of YaRN are those of upstream."""

    experimental_attention_variant: str | None = "gated_delta_net"
    position_embedding_type = "rope"
    rotary_base = 10_000_000.0
    seq_len_interpolation_factor: float | None = None
    yarn_rotary_scaling_factor: float | None = None
    yarn_original_max_position_embeddings: int | None = None
    yarn_beta_fast: float | None = None
    yarn_beta_slow: float | None = None
    yarn_mscale: float | None = None
    yarn_mscale_all_dim: float | None = None
    yarn_correction_range_round_to_int: bool | None = None

    def provide(self, pre_process: Any = None, post_process: Any = None, vp_stage: Any = None) -> Any:
        """Return a model."""
        del pre_process, post_process, vp_stage
        return language_model(self)


def language_model(provider: GPTModelProvider) -> Any:
    """Return a model with eight rotary frequencies."""
    inv_freq = Frequencies(provider.rotary_base ** (-number / 8) for number in range(8))
    return SimpleNamespace(
        rotary_pos_emb=SimpleNamespace(inv_freq=inv_freq, seq_len_interpolation_factor=None)
    )


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

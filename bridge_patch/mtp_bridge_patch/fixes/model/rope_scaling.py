"""Fix ``rope-scaling``: a model has the rotary frequencies that its checkpoint asks for.

Qwen's model cards scale them (YaRN) for contexts beyond the native length. The bridges of this family take
the base and the rotary part of a head alone, without a word, and set the kind of embedding to one that knows
no scaling. Here ``linear`` and ``yarn`` become fields of the provider, which a Megatron checkpoint keeps, and
its models get frequencies and attention factor by them. Kinds that no field can tell of are refused.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.errors import UnsupportedConfigError
from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import installed

_UNSCALED, _SCALED = (None, "default", "mrope"), ("linear", "yarn")
_WITHOUT_SCALING = ("rope", "mrope")
"""Kinds of embedding for which Megatron-Core looks at no field of YaRN's."""
_FAMILY = "gated_delta_net"
_attention_factor: ContextVar[float] = ContextVar("attention_factor", default=1.0)


def _provider(provider: Any, config: Any) -> Any:
    """Tell the provider how the checkpoint scales."""
    text = getattr(config, "text_config", config)
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind in _UNSCALED:
        return provider
    if kind not in _SCALED:
        raise UnsupportedConfigError(
            f"config.json asks for rope_type {kind!r}, for which Megatron-Core has no fields: "
            "it can be default, linear or yarn."
        )
    if not isinstance(factor, int | float) or factor <= 1:
        raise UnsupportedConfigError(
            f"config.json asks for rope_type {kind!r} with factor {factor!r}, which has to be above 1."
        )
    if kind == "linear":
        provider.seq_len_interpolation_factor = float(factor)
    else:
        for name, value in _yarn_fields(rope).items():
            setattr(provider, name, value)
    return provider


def _yarn_fields(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a provider has of YaRN, with transformers' defaults (``_compute_yarn_parameters``)."""
    factor, wanted = float(rope["factor"]), rope.get("attention_factor")
    mscale, of_all = rope.get("mscale"), rope.get("mscale_all_dim")
    if wanted is not None:  # Megatron-Core computes it: 0.1 * mscale * log(factor) + 1
        mscale, of_all = (wanted - 1) / (0.1 * math.log(factor)), 0.0
    elif not (mscale and of_all):
        mscale, of_all = 1.0, 0.0
    return {
        "yarn_rotary_scaling_factor": factor,
        "yarn_original_max_position_embeddings": rope["original_max_position_embeddings"],
        "yarn_beta_fast": float(rope.get("beta_fast") or 32),
        "yarn_beta_slow": float(rope.get("beta_slow") or 1),
        "yarn_mscale": float(mscale),
        "yarn_mscale_all_dim": float(of_all),
        "yarn_correction_range_round_to_int": bool(rope.get("truncate", True)),
    }


def _is_of_family(config: Any) -> bool:
    """Whether a model has GDN layers; others have their own ways to scale, or none."""
    return bool(getattr(config, "experimental_attention_variant", None) == _FAMILY)


def _is_scaled(config: Any) -> bool:
    return (
        _is_of_family(config)
        and getattr(config, "yarn_rotary_scaling_factor", None) is not None
        and getattr(config, "position_embedding_type", None) in _WITHOUT_SCALING
    )


def _scaled(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Return a provider's `provide` whose models have scaled frequencies."""

    @functools.wraps(upstream)
    def provide(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = upstream(self, *args, **kwargs)
        rotary = getattr(getattr(model, "language_model", model), "rotary_pos_emb", None)
        if rotary is None or not _is_of_family(self):
            return model
        if self.seq_len_interpolation_factor is not None:
            rotary.seq_len_interpolation_factor = self.seq_len_interpolation_factor
        if _is_scaled(self):
            unscaled = rotary.inv_freq
            rotary.inv_freq = unscaled * unscaled.new_tensor([*_yarn(self, len(unscaled))])
        return model

    return provide


def _yarn(config: Any, frequencies: int) -> Iterator[float]:
    """Yield by what each rotary frequency is multiplied, the highest first.

    High frequencies stay, low ones are divided by the factor; between the two numbers of rotations over the
    original length the share of the divided one grows linearly (YaRN, arXiv 2309.00071, section 3.2).
    """
    size, base = 2 * frequencies, config.rotary_base
    length, factor = config.yarn_original_max_position_embeddings, config.yarn_rotary_scaling_factor

    def dimension(rotations: float) -> float:
        return float(size * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base)))

    low, high = dimension(config.yarn_beta_fast), dimension(config.yarn_beta_slow)
    if config.yarn_correction_range_round_to_int:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    high += 0.001 if low == high else 0.0
    for number in range(frequencies):
        divided = min(max((number - low) / (high - low), 0.0), 1.0)
        yield divided / factor + 1 - divided


def _factor(config: Any) -> float:
    """Return by what cosine and sine are multiplied."""
    logarithm = 0.1 * math.log(config.yarn_rotary_scaling_factor)
    return float((config.yarn_mscale * logarithm + 1) / (config.yarn_mscale_all_dim * logarithm + 1))


def install_text(module: ModuleType) -> Callable[[], None]:
    """Scale the frequencies of text-only models, whose attention knows the factor.

    Args:
        module: The imported ``megatron.bridge.models.gpt_provider``.

    Returns:
        What puts the module back as it was.
    """
    return _provides(module.GPTModelProvider)


def install_vision(module: ModuleType) -> Callable[[], None]:
    """Scale the frequencies of vision-language models.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.qwen35_vl_provider``.

    Returns:
        What puts the module back as it was.
    """
    return _provides(module.Qwen35VLModelProvider, module.Qwen35VLMoEModelProvider)


def _provides(*providers: Any) -> Callable[[], None]:
    undo = ExitStack()
    for provider in providers:
        undo.callback(installed(provider, provide=_scaled(provider.provide)))
    return undo.close


def install_attention(module: ModuleType) -> Callable[[], None]:
    """Have the attention of vision-language models tell the factor to what rotates.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.attention``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module.apply_rotary_pos_emb_absolute

    @functools.wraps(upstream)
    def apply_rotary_pos_emb_absolute(t: Any, freqs: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        token = _attention_factor.set(_factor(config) if _is_scaled(config) else 1.0)
        try:
            return upstream(t, freqs, config, *args, **kwargs)
        finally:
            _attention_factor.reset(token)

    return installed(module, apply_rotary_pos_emb_absolute=apply_rotary_pos_emb_absolute)


def install_rotation(module: ModuleType) -> Callable[[], None]:
    """Multiply cosine and sine by the factor that attention has told.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.rope``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module._apply_rotary_pos_emb_bshd

    @functools.wraps(upstream)
    def _apply_rotary_pos_emb_bshd(*args: Any, **kwargs: Any) -> Any:
        factor = _attention_factor.get()
        return upstream(*args, **kwargs | ({} if factor == 1.0 else {"mscale": factor}))

    return installed(module, _apply_rotary_pos_emb_bshd=_apply_rotary_pos_emb_bshd)


_VISION = "megatron.bridge.models.qwen_vl."
FIX = Fix(
    id="rope-scaling",
    failure="Rotary frequencies are not scaled, whatever the checkpoint says.",
    fixed_since=None,
    provider=_provider,
    modules=MappingProxyType(
        {
            "megatron.bridge.models.gpt_provider": install_text,
            _VISION + "qwen35_vl_provider": install_vision,
            _VISION + "modelling_qwen3_vl.attention": install_attention,
            _VISION + "modelling_qwen3_vl.rope": install_rotation,
        }
    ),
)

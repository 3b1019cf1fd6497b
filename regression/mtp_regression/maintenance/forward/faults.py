"""Models that are wrong in one thing which no comparison of weights shows.

Each is an adapter, `mtp_regression.maintenance.forward.faults:NAME`: the patched Megatron-Bridge with another
value in one field of the provider, or with one wrong connection while logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from mtp_regression.adapters.megatron_bridge import PatchedMegatronBridge

FIELDS: Mapping[str, Mapping[str, Any]] = {
    "RotaryBaseOfLlama": {"rotary_base": 10_000},
    "RotaryBaseOfQwen3": {"rotary_base": 1_000_000},
    "RotaryPercentHalf": {"rotary_percent": 0.5},
    "RotaryPercentOne": {"rotary_percent": 1.0},
    "RotaryInterleaved": {"rotary_interleaved": True},
    "Interpolated": {"seq_len_interpolation_factor": 4.0},
    "EpsilonLarge": {"layernorm_epsilon": 1e-2},
    "EpsilonOfLayerNorm": {"layernorm_epsilon": 1e-5},
    "GammaAsItIs": {"layernorm_zero_centered_gamma": False},
    "SoftmaxScale": {"softmax_scale": 0.1},
    "Gelu": {"activation_func": functional.gelu},
    "OneMoreExpert": {"moe_router_topk": 3},
    "SoftmaxBeforeTopK": {"moe_router_pre_softmax": True},
    "SigmoidScores": {"moe_router_score_function": "sigmoid"},
    "ScaledScores": {"moe_router_topk_scaling_factor": 2.0},
    "GroupLimited": {"moe_router_num_groups": 2, "moe_router_group_topk": 1},
}
"""Wrong values of a provider's fields, by the adapter's name; a text-only model takes notice of all."""


class WrongField(PatchedMegatronBridge):
    """A provider with wrong values."""

    values: Mapping[str, Any]

    def configure(self, provider: Any) -> None:
        """Set them."""
        for name, value in self.values.items():
            if not hasattr(provider, name):
                raise AttributeError(f"{type(provider).__name__} has no {name}")
            setattr(provider, name, value)


class WrongWiring(PatchedMegatronBridge):
    """A model that is connected wrongly while it computes."""

    connect: Callable[[list[nn.Module]], AbstractContextManager[None]]

    def logits(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Compute with the wrong connection."""
        modules = [module for chunk in self._chunks for module in chunk.modules()]
        with type(self).connect(modules):
            return super().logits(batch)


@contextmanager
def _mtp_halves_swapped(modules: list[nn.Module]) -> Iterator[None]:
    """Put the hidden state where the next token's embedding belongs, and the reverse."""
    weights = [module.eh_proj.weight for module in modules if hasattr(module, "eh_proj")]
    held = [weight.data for weight in weights]
    for weight in weights:
        weight.data = torch.cat(weight.data.chunk(2, dim=1)[::-1], dim=1)
    try:
        yield
    finally:
        for weight, data in zip(weights, held, strict=True):
            weight.data = data


@contextmanager
def _mtp_before_the_final_norm(modules: list[nn.Module]) -> Iterator[None]:
    """Give MTP the decoder's hidden state as it is before the final norm."""
    before: list[torch.Tensor] = []

    def given(_layer: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**named, "hidden_states": before[-1]}

    handles = []
    for module in modules:
        if (norm := getattr(getattr(module, "decoder", None), "final_layernorm", None)) is not None:
            handles.append(norm.register_forward_pre_hook(lambda _norm, inputs: before.append(inputs[0])))
        if (mtp := getattr(module, "mtp", None)) is not None:
            handles.append(mtp.layers[0].register_forward_pre_hook(given, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _mtp_not_shifted(_modules: list[nn.Module]) -> Iterator[None]:
    """Give MTP each token's own embedding, not the next token's."""
    from megatron.core.transformer import multi_token_prediction

    def same(tensor: torch.Tensor, *_args: Any, **_kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return tensor, tensor.sum()

    with mock.patch.object(multi_token_prediction, "roll_tensor", same):
        yield


@contextmanager
def _shared_expert_without_gate(modules: list[nn.Module]) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            if getattr(module, "use_shared_expert_gate", False):
                stack.enter_context(mock.patch.object(module, "use_shared_expert_gate", False))
        yield


@contextmanager
def _query_without_norm(modules: list[nn.Module]) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            if getattr(module, "q_layernorm", None) is not None:
                norm = module.q_layernorm
                stack.enter_context(mock.patch.object(norm, "forward", lambda inputs: inputs))
        yield


@contextmanager
def _pads_attended_to(modules: list[nn.Module]) -> Iterator[None]:
    """Let every token of a row see the padding behind it, if not the tokens."""
    from megatron.core.transformer.enums import AttnMaskType

    def given(_attention: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        query, key, value, mask, *others = inputs
        if mask is None:  # of the vision tower
            return inputs, named
        padding = mask[:, :, -1:]  # hidden from the last as well
        seen = (query, key, value, mask & ~padding, *others)
        return seen, {**named, "attn_mask_type": AttnMaskType.arbitrary}

    with ExitStack() as stack:
        for module in modules:
            if (attention := getattr(module, "core_attention", None)) is not None:
                handle = attention.register_forward_pre_hook(given, with_kwargs=True)
                stack.callback(handle.remove)
        yield


WIRINGS = {
    "MtpHalvesSwapped": _mtp_halves_swapped,
    "MtpBeforeTheFinalNorm": _mtp_before_the_final_norm,
    "MtpNotShifted": _mtp_not_shifted,
    "SharedExpertWithoutGate": _shared_expert_without_gate,
    "QueryWithoutNorm": _query_without_norm,
    "PadsAttendedTo": _pads_attended_to,
}
"""Wrong connections, by the adapter's name; those of MTP leave the main logits as they are."""


def __getattr__(name: str) -> type[PatchedMegatronBridge]:
    """Make the adapter of a fault."""
    if name in FIELDS:
        return type(name, (WrongField,), {"values": FIELDS[name]})
    if name in WIRINGS:
        return type(name, (WrongWiring,), {"connect": staticmethod(WIRINGS[name])})
    raise AttributeError(name)

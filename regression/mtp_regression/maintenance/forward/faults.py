"""Models that are wrong in one thing which no comparison of weights shows.

Each is an adapter, `mtp_regression.maintenance.forward.faults:NAME`: the patched Megatron-Bridge with another
value in one field of the provider, or with one wrong connection while logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
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
        modules = [module for chunk in self.model for module in chunk.modules()]
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


def _rotary_axes_swapped(modules: list[nn.Module]) -> AbstractContextManager[None]:
    """Take positions in width for those in time, and the reverse."""

    def given(_rotary: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return (inputs[0].flip(0), *inputs[1:]), named

    models = [module for module in modules if hasattr(module, "output_layer")]
    return _hooks([model.rotary_pos_emb for model in models], given)


def _documents_attended_to(modules: list[nn.Module]) -> AbstractContextManager[None]:
    """Let the documents of a packed row see those before them."""
    attentions = [module.core_attention for module in modules if hasattr(module, "core_attention")]
    return _hooks(attentions, _as_one_document)


def _state_carried_over(modules: list[nn.Module]) -> AbstractContextManager[None]:
    """Let the gated delta rule go on from one document of a packed row to the next."""
    return _hooks([module for module in modules if hasattr(module, "A_log")], _as_one_document)


def _as_one_document(_module: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    packed = named.get("packed_seq_params")
    if packed is None:
        return inputs, named
    ends = packed.cu_seqlens_q[[0, -1]]
    return inputs, {**named, "packed_seq_params": replace(packed, cu_seqlens_q=ends, cu_seqlens_kv=ends)}


def _chunks_of_the_next_rank(modules: list[nn.Module]) -> AbstractContextManager[None]:
    """Give each context-parallel rank what the next one should have."""
    from megatron.core import parallel_state

    group = parallel_state.get_context_parallel_group()

    def given(_decoder: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        own = named["hidden_states"].contiguous()
        parts = [torch.empty_like(own) for _ in range(group.size())]
        torch.distributed.all_gather(parts, own, group=group)
        return inputs, {**named, "hidden_states": parts[(group.rank() + 1) % group.size()]}

    return _hooks([module.decoder for module in modules if hasattr(module, "output_layer")], given)


@contextmanager
def _hooks(modules: list[nn.Module], given: Callable[..., Any]) -> Iterator[None]:
    """Have `given` change what modules are given."""
    handles = [module.register_forward_pre_hook(given, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pads_attended_to(modules: list[nn.Module]) -> AbstractContextManager[None]:
    """Let every token of a row see the padding behind it, if not the tokens."""
    from megatron.core.transformer.enums import AttnMaskType

    def given(_attention: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        query, key, value, mask, *others = inputs
        if mask is None:  # of the vision tower
            return inputs, named
        padding = mask[:, :, -1:]  # hidden from the last as well
        seen = (query, key, value, mask & ~padding, *others)
        return seen, {**named, "attn_mask_type": AttnMaskType.arbitrary}

    return _hooks([module.core_attention for module in modules if hasattr(module, "core_attention")], given)


WIRINGS = {
    "MtpHalvesSwapped": _mtp_halves_swapped,
    "MtpBeforeTheFinalNorm": _mtp_before_the_final_norm,
    "MtpNotShifted": _mtp_not_shifted,
    "SharedExpertWithoutGate": _shared_expert_without_gate,
    "QueryWithoutNorm": _query_without_norm,
    "PadsAttendedTo": _pads_attended_to,
    "RotaryAxesSwapped": _rotary_axes_swapped,
}
"""Wrong connections, by the adapter's name; those of MTP leave the main logits as they are."""
WIRINGS_OF_KINDS = {
    "DocumentsAttendedTo": _documents_attended_to,
    "StateCarriedOver": _state_carried_over,
    "ChunksOfTheNextRank": _chunks_of_the_next_rank,
}
"""Those that only a packed row shows, or context parallelism."""


def __getattr__(name: str) -> type[PatchedMegatronBridge]:
    """Make the adapter of a fault."""
    if name in FIELDS:
        return type(name, (WrongField,), {"values": FIELDS[name]})
    if connect := {**WIRINGS, **WIRINGS_OF_KINDS}.get(name):
        return type(name, (WrongWiring,), {"connect": staticmethod(connect)})
    raise AttributeError(name)

"""Lets a model of Megatron-Core that was built and loaded without a GPU compute there, in float32."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from mtp_regression.megatron.cpu import Nothing, cuda_on_cpu, streams_on_cpu
from mtp_regression.megatron.te_attention import own_of_packed

_CONFIG = {
    "bf16": False,
    "fp16": False,
    "params_dtype": torch.float32,
    "pipeline_dtype": torch.float32,
    "autocast_dtype": torch.float32,
    "deterministic_mode": True,  # the gated delta rule and its convolution in torch, not in triton
    "moe_permute_fusion": False,
    "apply_rope_fusion": False,
    "bias_activation_fusion": False,
    "bias_dropout_fusion": False,
    "masked_softmax_fusion": False,
    "cross_entropy_loss_fusion": False,
}
"""What of a model's configuration takes kernels of a GPU, or a dtype."""


@contextmanager
def computing_on_cpu(chunks: Iterable[nn.Module], *, packed: bool = False) -> Iterator[None]:
    """Let model chunks compute in float32, inside a `with` block; their parameters are as before at its end.

    Answers what Megatron asks of CUDA while it computes, and does without its kernels. BF16 parameters have
    the same values in float32.

    Args:
        chunks: The model chunks.
        packed: Whether rows are packed, which the gated delta rule takes on its way through kernels alone.
    """
    config = {**_CONFIG, "deterministic_mode": not packed}
    modules = list({id(module): module for chunk in chunks for module in chunk.modules()}.values())
    with ExitStack() as stack:
        stack.enter_context(cuda_on_cpu())
        stack.enter_context(streams_on_cpu())
        stack.enter_context(_without_kernels(modules))
        stack.enter_context(_in_float32(modules, config))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def _in_float32(modules: Iterable[nn.Module], values: Mapping[str, object]) -> Iterator[None]:
    """Give modules float32 parameters and buffers, a configuration's values, and the mode of evaluation."""
    held: list[tuple[torch.Tensor, torch.Tensor]] = []
    training = [(module, module.training) for module in modules]
    configs = {id(module.config): module.config for module in modules if hasattr(module, "config")}
    with ExitStack() as stack:
        for config in configs.values():
            for name, value in values.items():
                if hasattr(config, name):
                    stack.enter_context(mock.patch.object(config, name, value))
        try:
            for module in modules:
                module.training = False
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.is_floating_point() and tensor.dtype != torch.float32:
                        held.append((tensor, tensor.data))
                        tensor.data = tensor.data.float()
            yield
        finally:
            for tensor, data in held:
                tensor.data = data
            for module, was in training:
                module.training = was


@contextmanager
def _without_kernels(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put torch in the place of triton, cuBLAS and CUDA's random states."""
    core = "megatron.core."
    dispatcher = importlib.import_module(core + "transformer.moe.token_dispatcher")
    delta = importlib.import_module(core + "ssm.gated_delta_net")
    common = getattr(delta, "common", delta)  # modules of their own since Megatron-Core 0.19
    rule = partial(_gated_delta_rule, common.torch_chunk_gated_delta_rule)
    replaced: list[tuple[Any, str, Any]] = [
        (common, "l2norm", _l2norm),
        (getattr(delta, "gdn", delta), "causal_conv1d", _causal_conv1d),
        (importlib.import_module(core + "transformer.moe.moe_utils"), "te_general_gemm", None),
        # Of the package `transformer_engine_torch`; Megatron-Core imports it there if it is installed.
        (importlib.import_module(core + "utils"), "tex", SimpleNamespace(thd_get_partitioned_indices=_own)),
        (dispatcher, "maybe_move_tensor_to_cpu", _as_the_dispatcher_wants),
        (dispatcher.MoEAlltoAllTokenDispatcher, "cuda_dtoh_stream", Nothing()),
        (
            importlib.import_module(core + "tensor_parallel.random").CudaRNGStatesTracker,
            "fork",
            lambda *_args, **_kwargs: nullcontext(),  # dropout is off
        ),
    ]
    replaced += [
        (module, "gated_delta_rule", rule) for module in modules if hasattr(module, "gated_delta_rule")
    ]
    with ExitStack() as stack:
        for owner, name, value in replaced:
            if hasattr(owner, name):
                stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _l2norm(values: torch.Tensor, dim: int = -1, eps: float = 1e-6) -> torch.Tensor:
    """Divide by the root of the sum of squares, as `fla.modules.l2norm` does."""
    return values * torch.rsqrt(values.square().sum(dim, keepdim=True) + eps)


def _causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    cu_seqlens: torch.Tensor | None = None,
    **_unused: object,
) -> tuple[torch.Tensor, None]:
    """Convolve each channel with what came before, as `fla.modules.convolution.causal_conv1d` does.

    Args:
        x: [batch, sequence, channels].
        weight: [channels, width].
        bias: [channels].
        activation: "silu", "swish" (the same), or None.
        cu_seqlens: Where each of the sequences begins that lie one after another in x, and its length.

    Returns:
        Of the shape of x; and no state.
    """
    width, parts = weight.shape[1], []
    for part in _sequences(x, cu_seqlens):
        before = functional.pad(part.transpose(1, 2), (width - 1, 0))
        parts.append(functional.conv1d(before, weight[:, None], bias, groups=len(weight)).transpose(1, 2))
    found = torch.cat(parts, dim=1)
    return (found if activation is None else functional.silu(found)), None


def _gated_delta_rule(
    rule: Callable[..., tuple[torch.Tensor, Any]],
    *inputs: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    cu_seqlens: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Apply Megatron-Core's rule in torch to each of the sequences that lie one after another."""
    cut = zip(*(_sequences(tensor, cu_seqlens) for tensor in (*inputs, g, beta)), strict=True)
    found = [rule(*parts, g=part_g, beta=part_beta, **options)[0] for *parts, part_g, part_beta in cut]
    return torch.cat(found, dim=1), None


def _sequences(tensor: torch.Tensor, cu_seqlens: torch.Tensor | None) -> Sequence[torch.Tensor]:
    """Cut [batch, sequence, ...] apart where sequences begin."""
    return [tensor] if cu_seqlens is None else tensor.split(cu_seqlens.diff().tolist(), dim=1)


def _own(starts: torch.Tensor, _tokens: int, ranks: int, rank: int) -> torch.Tensor:
    """Return which tokens of a packed row a rank has, as TransformerEngine's function of that name does."""
    return own_of_packed(starts, rank, ranks)


def _as_the_dispatcher_wants(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
    """Make an array of a tensor, as Megatron-Core makes of a GPU's: gloo takes no tensor of sizes."""
    del record_stream
    return tensor.numpy() if as_numpy and isinstance(tensor, torch.Tensor) else tensor

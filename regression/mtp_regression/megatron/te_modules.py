"""What the stand-in for TransformerEngine provides, by name.

A module has parameters with the real one's names, shapes, dtypes and tensor-parallel attributes, left
uninitialised, and computes what the real one computes, in plain torch: on any device, and slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from mtp_regression.megatron.te_attention import DotProductAttention
from mtp_regression.megatron.te_linear import GroupedLinear, LayerNormLinear, Linear
from mtp_regression.megatron.te_norms import LayerNorm, RMSNorm


class SplitAlongDim:
    """Splits a tensor; TransformerEngine's is a function of autograd, with `apply`."""

    @staticmethod
    def apply(tensor: torch.Tensor, dim: int, sizes: int | Sequence[int], *_unused: object) -> Any:
        """Split a tensor along a dimension into parts of these sizes."""
        return torch.split(tensor, sizes if isinstance(sizes, int) else list(sizes), dim=dim)


def get_cpu_offload_context(
    *_args: object, **_kwargs: object
) -> tuple[AbstractContextManager[None], Callable[[torch.Tensor], torch.Tensor]]:
    """Return that nothing is to be offloaded; Megatron asks while it builds a block, and enters it."""
    return nullcontext(), lambda tensor: tensor


PROVIDED = {
    provided.__name__: provided
    for provided in (
        Linear,
        LayerNormLinear,
        GroupedLinear,
        RMSNorm,
        LayerNorm,
        DotProductAttention,
        SplitAlongDim,
        get_cpu_offload_context,
    )
} | {"_SplitAlongDim": SplitAlongDim}
"""Any other class of the package is a subclass of `Empty`."""

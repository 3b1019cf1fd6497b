"""The norms of the stand-in for TransformerEngine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mtp_regression.megatron.te_base import Empty, new_parameter


class RMSNorm(Empty):
    """`weight` of the normalised shape; computes in float32."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int] | None = None,
        eps: float = 1e-5,
        zero_centered_gamma: bool = False,
        dtype: torch.dtype | None = None,
        device: object = "cuda",
        hidden_size: int | None = None,
        params_dtype: torch.dtype | None = None,
        sequence_parallel: bool | None = None,
        **_unused: object,
    ) -> None:
        super().__init__()
        size = hidden_size if normalized_shape is None else normalized_shape
        if size is None:
            raise TypeError("a norm needs normalized_shape or hidden_size")
        self.eps = eps
        self.zero_centered_gamma = zero_centered_gamma
        self.weight = new_parameter(
            *((size,) if isinstance(size, int) else size),
            dtype=dtype or params_dtype or torch.get_default_dtype(),
            device=device,
        )
        self.sequence_parallel = sequence_parallel
        if sequence_parallel is not None:
            self.weight.sequence_parallel = sequence_parallel

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension; the result has the dtype of the input."""
        return normalized(
            inputs, self.weight, None, eps=self.eps, zero_centered_gamma=self.zero_centered_gamma, rms=True
        )


class LayerNorm(RMSNorm):
    """`weight` and `bias` of the normalised shape; computes in float32."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bias = nn.Parameter(torch.empty_like(self.weight))
        if self.sequence_parallel is not None:
            self.bias.sequence_parallel = self.sequence_parallel

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension; the result has the dtype of the input."""
        return normalized(
            inputs,
            self.weight,
            self.bias,
            eps=self.eps,
            zero_centered_gamma=self.zero_centered_gamma,
            rms=False,
        )


def normalized(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    eps: float,
    zero_centered_gamma: bool,
    rms: bool,
) -> torch.Tensor:
    """Normalise the last dimension of a tensor, in float32.

    Args:
        inputs: [..., size], of any floating dtype, which the result has as well.
        weight: [size]; with `zero_centered_gamma` what is multiplied by is 1 more.
        bias: [size], or None.
        eps: Added to the mean of squares, or to the variance.
        zero_centered_gamma: See `weight`.
        rms: Whether to divide by the root of the mean of squares (RMSNorm), or to subtract the mean and
            divide by the standard deviation (LayerNorm).
    """
    values = inputs.float()
    gamma = weight.float() + 1 if zero_centered_gamma else weight.float()
    if rms:
        scaled = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + eps) * gamma
    else:
        scaled = functional.layer_norm(
            values, values.shape[-1:], gamma, None if bias is None else bias.float(), eps
        )
    return scaled.to(inputs.dtype)

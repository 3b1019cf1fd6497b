"""The modules of the stand-in for TransformerEngine: their parameters, and no computation.

A module has parameters with the real one's names, shapes, dtypes and tensor-parallel attributes. They are
left uninitialised; the caller fills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import nn


class Empty(nn.Module):
    """A class of TransformerEngine without parameters that a conversion reads."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()

    def set_tensor_parallel_group(self, tp_group: object) -> None:
        """Keep the group, as the real modules do."""
        self.tp_group = tp_group

    def forward(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse: nothing is computed."""
        raise RuntimeError(f"{type(self).__name__}: the stand-in for TransformerEngine computes nothing")


def _parameter(
    *shape: int, dtype: torch.dtype, device: object, shard_axis: int | None = None
) -> nn.Parameter:
    # On the device that Megatron names; it may name a GPU even where there is none (see `megatron.cpu`).
    if str(device) != "meta" and not torch.cuda.is_available():
        device = "cpu"
    parameter = nn.Parameter(torch.empty(*shape, dtype=dtype, device=device))
    if shard_axis is not None:
        parameter.tensor_model_parallel = True
        parameter.partition_dim = shard_axis
        parameter.partition_stride = 1
    return parameter


class _Sharded(Empty):
    """What the linear modules share: sizes divided by the tensor-parallel size, and attributes.

    Takes TransformerEngine's keyword arguments, and ignores those that do not affect parameters.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tp_size: int = 1,
        parallel_mode: str | None = None,
        sequence_parallel: bool = False,
        bias: bool = True,
        params_dtype: torch.dtype = torch.float32,
        device: object = "cuda",
        **_unused: object,
    ) -> None:
        super().__init__()
        self.tp_size = tp_size
        self.parallel_mode = parallel_mode
        self.sequence_parallel = tp_size > 1 and sequence_parallel
        self.in_features = in_features // tp_size if parallel_mode == "row" else in_features
        self.out_features = out_features // tp_size if parallel_mode == "column" else out_features
        self.use_bias = bias
        self._place: dict[str, Any] = {"dtype": params_dtype, "device": device}
        # Megatron-Core asks these of grouped modules when it saves a checkpoint.
        self.fp8 = self.fp8_calibration = False
        self.fp8_meta = {"fp8_checkpoint": False}

    def get_extra_state(self) -> torch.Tensor:
        """Return the `_extra_state` of a module that is not quantised: no bytes."""
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: object) -> None:
        """Take an `_extra_state` and drop it: without FP8 it holds nothing."""

    def init_fp8_metadata(self, num_gemms: int = 1) -> None:
        """Leave FP8 off; Megatron-Core calls it before it loads a checkpoint."""

    def _add(self, suffix: str = "") -> None:
        weight_axis = 1 if self.parallel_mode == "row" else 0
        weight = _parameter(self.out_features, self.in_features, **self._place, shard_axis=weight_axis)
        self.register_parameter(f"weight{suffix}", weight)
        if self.use_bias:
            bias_axis = 0 if self.parallel_mode == "column" else None
            bias = _parameter(self.out_features, **self._place, shard_axis=bias_axis)
            if self.parallel_mode == "row":
                bias.sequence_parallel = self.sequence_parallel
            self.register_parameter(f"bias{suffix}", bias)


class Linear(_Sharded):
    """`weight` [out_features, in_features] and `bias` [out_features], in `params_dtype`.

    Column-parallel modules have `out_features / tp_size`, row-parallel ones `in_features / tp_size`.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self._add()
        if not self.use_bias:
            self.bias = None


class LayerNormLinear(Linear):
    """A `Linear` with the norm before it: `layer_norm_weight` [in_features], for LayerNorm also a bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        normalization: str = "LayerNorm",
        zero_centered_gamma: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(in_features, out_features, **options)
        self.zero_centered_gamma = zero_centered_gamma
        self.layer_norm_weight = _parameter(in_features, **self._place)
        self.layer_norm_weight.sequence_parallel = self.sequence_parallel
        self.layer_norm_bias = None
        if normalization == "LayerNorm":
            self.layer_norm_bias = _parameter(in_features, **self._place)
            self.layer_norm_bias.sequence_parallel = self.sequence_parallel


class GroupedLinear(_Sharded):
    """`weight{i}` and `bias{i}` for each of `num_gemms` experts, each in the shape that `Linear` has."""

    def __init__(self, num_gemms: int, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self.num_gemms = num_gemms
        for gemm in range(num_gemms):
            self._add(str(gemm))


class RMSNorm(Empty):
    """`weight` of the normalised shape."""

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
        self.weight = _parameter(
            *((size,) if isinstance(size, int) else size),
            dtype=dtype or params_dtype or torch.get_default_dtype(),
            device=device,
        )
        self.sequence_parallel = sequence_parallel
        if sequence_parallel is not None:
            self.weight.sequence_parallel = sequence_parallel


class LayerNorm(RMSNorm):
    """`weight` and `bias` of the normalised shape."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bias = nn.Parameter(torch.empty_like(self.weight))
        if self.sequence_parallel is not None:
            self.bias.sequence_parallel = self.sequence_parallel


class DotProductAttention(Empty):
    """Attention without its projections: no parameters."""


def get_cpu_offload_context(*_args: object, **_kwargs: object) -> tuple[None, None]:
    """Return that nothing is to be offloaded; Megatron asks while it builds a block."""
    return None, None


PROVIDED = {
    provided.__name__: provided
    for provided in (
        Linear,
        LayerNormLinear,
        GroupedLinear,
        RMSNorm,
        LayerNorm,
        DotProductAttention,
        get_cpu_offload_context,
    )
}
"""What the stand-in provides, by name; any other class of the package is a subclass of `Empty`."""

"""What the modules of the stand-in for TransformerEngine share: how parameters are made and marked."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Empty(nn.Module):
    """A class of TransformerEngine that this family's models do not compute with."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()

    def set_tensor_parallel_group(self, tp_group: object) -> None:
        """Keep the group, as the real modules do."""
        self.tp_group = tp_group

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: what the real one computes is not known here."""
        raise RuntimeError(f"{type(self).__name__}: the stand-in for TransformerEngine does not compute this")


def new_parameter(
    *shape: int, dtype: torch.dtype, device: object, shard_axis: int | None = None
) -> nn.Parameter:
    """Make a parameter, uninitialised.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        device: That Megatron names; it may name a GPU even where there is none (see `megatron.cpu`).
        shard_axis: The axis that tensor-parallel ranks share; None for a parameter that each has whole.
    """
    if str(device) != "meta" and not torch.cuda.is_available():
        device = "cpu"
    parameter = nn.Parameter(torch.empty(*shape, dtype=dtype, device=device))
    if shard_axis is not None:
        parameter.tensor_model_parallel = True
        parameter.partition_dim = shard_axis
        parameter.partition_stride = 1
    return parameter


class Sharded(Empty):
    """What the linear modules share: sizes divided by the tensor-parallel size, and attributes.

    Takes TransformerEngine's keyword arguments, and ignores those that affect neither parameters nor values.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        tp_size: int = 1,
        tp_group: Any = None,
        parallel_mode: str | None = None,
        sequence_parallel: bool = False,
        bias: bool = True,
        return_bias: bool = False,
        params_dtype: torch.dtype = torch.float32,
        device: object = "cuda",
        **_unused: object,
    ) -> None:
        super().__init__()
        self.tp_size = tp_size
        self.tp_group = tp_group
        self.parallel_mode = parallel_mode
        self.sequence_parallel = tp_size > 1 and sequence_parallel
        self.in_features = in_features // tp_size if parallel_mode == "row" else in_features
        self.out_features = out_features // tp_size if parallel_mode == "column" else out_features
        self.use_bias = bias
        self.return_bias = return_bias
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
        weight = new_parameter(self.out_features, self.in_features, **self._place, shard_axis=weight_axis)
        self.register_parameter(f"weight{suffix}", weight)
        if self.use_bias:
            bias_axis = 0 if self.parallel_mode == "column" else None
            bias = new_parameter(self.out_features, **self._place, shard_axis=bias_axis)
            if self.parallel_mode == "row":
                bias.sequence_parallel = self.sequence_parallel
            self.register_parameter(f"bias{suffix}", bias)

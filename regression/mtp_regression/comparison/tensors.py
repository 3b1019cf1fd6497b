"""Tensors as bytes, as they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_regression.comparison.stored import Stored

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""Numpy's dtype for each of safetensors' dtype names; BF16 and FP8 are those of ml_dtypes."""

_TORCH_NAMES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


Reader = Callable[[int, int], NDArray[np.uint8]]
"""Gives a tensor's bytes from one offset to another, or to their end."""


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as a safetensors file stores it.

    Attributes:
        dtype: Safetensors' name of the dtype.
        shape: Its shape; () for a scalar.
        content: Its bytes (see `data`), or a function that returns them and is called whenever they are asked
            for, so that only tensors in use are in memory.
    """

    dtype: str
    shape: tuple[int, ...]
    content: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]

    @property
    def data(self) -> NDArray[np.uint8]:
        """Its bytes, uint8[count * itemsize], little-endian, row-major."""
        return self.content() if callable(self.content) else self.content

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> RawTensor:
        """Convert a numpy array, of any strides; its data is copied only if it is not contiguous.

        Raises:
            KeyError: The dtype is not in `DTYPES`.
        """
        names = {dtype: name for name, dtype in DTYPES.items()}
        return cls(names[array.dtype], array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    def reader(self) -> Reader:
        """Return what gives the bytes piece by piece.

        Those of a file are read, and not mapped into memory, where they would stay. Others are made once.
        """
        if isinstance(self.content, Stored):
            return self.content.read
        data = self.data
        return lambda start, end: data[start:end]

    @classmethod
    def of(cls, tensor: Any, *, copy: bool = True) -> RawTensor:
        """Take the bytes of a numpy array or a `torch.Tensor`.

        Args:
            tensor: The tensor.
            copy: Whether to copy them. If not, they are the tensor's own if it is contiguous and on the CPU,
                and are good for as long as nobody writes into it.

        Raises:
            KeyError, ValueError: The dtype is not one that a checkpoint can have.
        """
        if isinstance(tensor, np.ndarray):
            return cls.from_array(tensor.copy() if copy else tensor)
        return cls.from_torch(tensor, copy=copy)

    @classmethod
    def from_torch(cls, tensor: Any, *, copy: bool = True) -> RawTensor:
        """Take the bytes of a `torch.Tensor`, on any device, with any strides; see `of`.

        Raises:
            ValueError: The dtype is not one that a checkpoint can have.
        """
        import torch

        name = _TORCH_NAMES.get(str(tensor.dtype))
        if name is None:
            raise ValueError(f"{tensor.dtype} is no dtype of a checkpoint")
        held = tensor.detach()
        if held.is_cuda:  # pinned memory is used again: a copy into new memory takes several times as long
            held = torch.empty(held.shape, dtype=held.dtype, pin_memory=True).copy_(held)
        flat = held.cpu().contiguous().flatten()
        data = flat.view(torch.uint8).numpy()
        return cls(name, tuple(tensor.shape), data.copy() if copy else data)

    def to_torch(self) -> Any:
        """Return the bytes, without a copy if they can be written to, as a `torch.Tensor` on the CPU."""
        import torch

        named = {name: dtype for dtype, name in _TORCH_NAMES.items()}
        dtype = getattr(torch, named[self.dtype].removeprefix("torch."))
        return torch.from_numpy(np.require(self.data, requirements="W")).view(dtype).reshape(self.shape)

    def array(self) -> NDArray[Any]:
        """View the bytes, without a copy, as a numpy array of the tensor's shape and dtype (see `DTYPES`)."""
        return self.data.view(DTYPES[self.dtype]).reshape(self.shape)


Tensors = Mapping[str, RawTensor]
"""Tensors by name."""


def read_folder(folder: Path) -> dict[str, RawTensor]:
    """Read the headers of a checkpoint; a tensor's bytes are mapped into memory while they are used.

    Args:
        folder: A folder with `model.safetensors.index.json`, or with safetensors files and no index.

    Returns:
        The tensors by key.

    Raises:
        CheckpointError: See `read_checkpoint`.
    """
    headers = read_checkpoint(folder)
    return {
        name: RawTensor(dtype, shape, Stored(headers.folder / file, start + begin, end - begin))
        for name, (dtype, shape, begin, end) in headers.tensors.items()
        for file in (headers.shard_of[name],)
        for start in (headers.shards[file].data_start,)
    }

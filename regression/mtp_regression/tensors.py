"""Tensors as bytes: what is compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mtp_fixtures.writer import INDEX_NAME

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
"""Safetensors' dtype names, with numpy's dtypes for them."""

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


class CheckpointError(ValueError):
    """A checkpoint folder that cannot be read as one checkpoint."""


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as it would be stored.

    Attributes:
        dtype: Safetensors' name of the dtype.
        shape: Its shape; () for a scalar.
        data: Its bytes, uint8[count * itemsize], little-endian, row-major.
    """

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> RawTensor:
        """Take a numpy array's values, whatever its strides."""
        names = {dtype: name for name, dtype in DTYPES.items()}
        return cls(names[array.dtype], array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    @classmethod
    def from_torch(cls, tensor: Any) -> RawTensor:
        """Copy a `torch.Tensor`, on any device, with any strides.

        Raises:
            ValueError: The dtype is none that a checkpoint stores.
        """
        import torch

        name = _TORCH_NAMES.get(str(tensor.dtype))
        if name is None:
            raise ValueError(f"{tensor.dtype} is no dtype of a checkpoint")
        flat = tensor.detach().cpu().contiguous().flatten()
        return cls(name, tuple(tensor.shape), flat.view(torch.uint8).numpy().copy())

    def array(self) -> NDArray[Any]:
        """View the tensor as a numpy array of its shape (with ml_dtypes' bfloat16 for BF16)."""
        return self.data.view(DTYPES[self.dtype]).reshape(self.shape)


def read_folder(folder: Path) -> dict[str, RawTensor]:
    """Map every tensor of a checkpoint, lazily: its bytes are read when they are looked at.

    Args:
        folder: Holds `model.safetensors.index.json`, or safetensors files and no index.

    Returns:
        The tensors by name.

    Raises:
        CheckpointError: Every contradiction between index and shards, and every unreadable shard.
    """
    index_path = folder / INDEX_NAME
    weight_map: dict[str, str] | None = None
    if index_path.exists():
        weight_map = _weight_map(index_path)
        shard_names = sorted(set(weight_map.values()))
    else:
        shard_names = sorted(path.name for path in folder.glob("*.safetensors"))
    problems: list[str] = []
    tensors: dict[str, RawTensor] = {}
    shard_of: dict[str, str] = {}
    for shard_name in shard_names:
        path = folder / shard_name
        if path.resolve().parent != folder.resolve():
            problems.append(f"{shard_name!r} is outside the folder")
            continue
        try:
            shard = _read_shard(path)
        except (OSError, SafetensorError) as error:
            problems.append(f"{shard_name}: {error}")
            continue
        problems += [
            f"{name} is in {shard_of[name]} and in {shard_name}" for name in shard if name in tensors
        ]
        tensors |= shard
        shard_of |= dict.fromkeys(shard, shard_name)
    if weight_map is not None and not problems:
        problems += _index_problems(weight_map, shard_of)
    if not tensors and not problems:
        problems.append("no safetensors file")
    if problems:
        shown = "; ".join(problems[:5]) + (" ..." if len(problems) > 5 else "")
        raise CheckpointError(f"{folder}: {len(problems)} problems: {shown}")
    return tensors


def _weight_map(index_path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
        if all(isinstance(shard_name, str) for shard_name in weight_map.values()):
            return dict(weight_map)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise CheckpointError(f"{index_path} has no weight_map of tensor names to file names")


def _read_shard(path: Path) -> dict[str, RawTensor]:
    with safe_open(path, framework="numpy") as file:  # checks the header against the file's size
        names = file.keys()
    with path.open("rb") as shard:
        header_size = int.from_bytes(shard.read(8), "little")
        header: Mapping[str, Any] = json.loads(shard.read(header_size))
    data = np.memmap(path, np.uint8, mode="r", offset=8 + header_size) if names else np.empty(0, np.uint8)
    tensors = {}
    for name in names:
        begin, end = header[name]["data_offsets"]
        tensors[name] = RawTensor(header[name]["dtype"], tuple(header[name]["shape"]), data[begin:end])
    return tensors


def _index_problems(weight_map: Mapping[str, str], shard_of: Mapping[str, str]) -> list[str]:
    problems = [f"{name} is in no shard" for name in weight_map if name not in shard_of]
    for name, shard_name in shard_of.items():
        if name not in weight_map:
            problems.append(f"{name} of {shard_name} is not in the index")
        elif weight_map[name] != shard_name:
            problems.append(f"the index puts {name} into {weight_map[name]}, it is in {shard_name}")
    return problems

"""Another checkpoint with the shapes of the one at hand, made by moving its values.

Whatever a bridge can carry of the one it can carry of the other: every tensor has the same values in other
places, and so every block of an FP8 weight, which keeps its scale.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mtp_checkpoint.files.index import INDEX_NAME, SUFFIX
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import Block, Place, parse
from mtp_checkpoint.layouts.stored_experts import split_packed, stored_experts
from mtp_regression.comparison.tensors import DTYPES, RawTensor, Tensors


class _Changed(Mapping[str, RawTensor]):
    """A checkpoint's tensors, changed; each is made when it is asked for."""

    def __init__(self, source: Tensors) -> None:
        self._source = source

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)


class Moved(_Changed):
    """A checkpoint's tensors with their values in other places, but for those below a prefix."""

    def __init__(self, source: Tensors, *, kept: str = "") -> None:
        super().__init__(source)
        self._kept = kept

    def __getitem__(self, name: str) -> RawTensor:
        tensor = self._source[name]
        if parse(name).scale or (self._kept and name.startswith(self._kept)):
            return tensor
        return RawTensor(tensor.dtype, tensor.shape, partial(_moved, tensor))


def _moved(tensor: RawTensor) -> NDArray[np.uint8]:
    values = tensor.array()
    if tensor.dtype != "F8_E4M3":
        return np.roll(values.reshape(-1), values.size // 3 + 1).view(np.uint8)
    even = values.shape[-1] // 2 * 2  # neighbours are in one block, whose size is even
    moved = values.copy()
    moved[..., 0:even:2], moved[..., 1:even:2] = values[..., 1:even:2], values[..., 0:even:2]
    return moved.reshape(-1).view(np.uint8)


class WithoutMtp(_Changed):
    """A checkpoint's tensors but those of its MTP layers."""

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._source if parse(name).block is not Block.MTP)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> RawTensor:
        if parse(name).block is Block.MTP:
            raise KeyError(name)
        return self._source[name]


class SignFlipped(_Changed):
    """A checkpoint's tensors with the sign bit of every matrix's elements flipped, those of scales apart.

    Matrices are the tensors of two dimensions and more.
    """

    def __getitem__(self, name: str) -> RawTensor:
        tensor = self._source[name]
        if len(tensor.shape) < 2 or parse(name).scale:
            return tensor
        return RawTensor(tensor.dtype, tensor.shape, partial(_sign_flipped, tensor))


def _sign_flipped(tensor: RawTensor) -> NDArray[np.uint8]:
    flipped = tensor.data.copy()
    size = DTYPES[tensor.dtype].itemsize
    flipped[size - 1 :: size] ^= 0x80
    return flipped


def in_other_mtp_layout(tensors: Tensors) -> dict[str, RawTensor] | None:
    """Store the routed experts of MTP layers packed where they are per expert, and the reverse.

    Returns:
        All tensors; None if there are no such experts, or if they are FP8.
    """
    experts = {name: parse(name) for name in tensors}
    experts = {name: at for name, at in experts.items() if at.block is Block.MTP and at.projection}
    if not experts or any(tensors[name].dtype == "F8_E4M3" for name in experts):
        return None
    packed = any(place.stacked for place in experts.values())
    layout = ExpertLayout.PER_EXPERT if packed else ExpertLayout.PACKED
    logical = {key: part for name in experts for key, part in _logical(name, tensors[name])}
    stored = {name: tensors[name] for name in tensors if name not in experts}
    for layer in sorted({place._replace(projection="", expert=None) for place in experts.values()}):
        stored |= _stored(layout, layer, logical)
    return stored


def _logical(name: str, tensor: RawTensor) -> Iterator[tuple[str, RawTensor]]:
    """Yield the matrices, one an expert and projection, that a tensor holds one after the other."""
    start = 0
    for key, shape in split_packed(name, tensor.shape) or [(name, tensor.shape)]:
        end = start + tensor.data.size * math.prod(shape) // math.prod(tensor.shape)
        yield key, RawTensor(tensor.dtype, shape, tensor.data[start:end])
        start = end


def _stored(layout: ExpertLayout, layer: Place, logical: Tensors) -> Iterator[tuple[str, RawTensor]]:
    """Yield the tensors in which a layout stores the experts of one layer."""
    gate = layer._replace(projection="gate")
    count = next(number for number in itertools.count() if gate._replace(expert=number).key not in logical)
    first = logical[gate._replace(expert=0).key]
    width, hidden = first.shape
    for tensor in stored_experts(layout, layer, experts=count, width=width, hidden=hidden):
        data = np.concatenate([logical[part.key].data for part, _ in tensor.parts])
        yield tensor.place.key, RawTensor(first.dtype, tensor.shape, data)


def write_checkpoint(folder: Path, tensors: Tensors, *, like: Path) -> Path:
    """Write tensors as a checkpoint of one file.

    Args:
        folder: Where to; it does not exist.
        tensors: All of them are in memory at once.
        like: A checkpoint, whose other files are copied.

    Returns:
        The folder.
    """
    weights = (f"*{SUFFIX}", INDEX_NAME)
    shutil.copytree(like, folder, ignore=shutil.ignore_patterns(*weights))
    content = {name: tensors[name].array() for name in tensors}
    save_file(content, folder / f"model{SUFFIX}", metadata={"format": "pt"})
    return folder

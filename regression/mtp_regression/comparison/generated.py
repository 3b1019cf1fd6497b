"""The tensors of a checkpoint that is on no disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtp_fixtures import CheckpointSpec
from mtp_fixtures.model.tensor import ITEM_SIZES, Form, StoredTensor
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder

KEPT = 2
"""Tensors whose bytes are kept after they were made: a layer's packed experts are read expert by expert."""
_THREADS = min(8, os.cpu_count() or 1)
"""Experts of a packed tensor that are drawn at a time."""


def tensors_of(folder: Path, spec: CheckpointSpec | None) -> Tensors:
    """Give a checkpoint's tensors: those of the folder's files or, where a spec makes them, the spec's."""
    return read_folder(folder) if spec is None else GeneratedTensors(spec)


def torch_tensors(spec: CheckpointSpec) -> Callable[[str], Any]:
    """Return a function that makes the `torch.Tensor` of a key, for an adapter's `read_from`.

    It shares nothing with `tensors_of`: a bridge that writes into what it reads must not change what is
    right.
    """
    tensors = GeneratedTensors(spec)
    return lambda key: tensors[key].to_torch()


class GeneratedTensors(Mapping[str, RawTensor]):
    """A checkpoint's tensors by key, whose bytes the generator makes when they are asked for.

    They are the bytes that `CheckpointSpec.write` would write. In memory are at most the last `KEPT` of them,
    and those that are in use.
    """

    def __init__(self, spec: CheckpointSpec) -> None:
        """List the tensors; nothing is made.

        Args:
            spec: The checkpoint.

        Raises:
            GeometryError, ValueError: See `CheckpointSpec.tensors`.
        """
        self._spec = spec
        self._stored = {tensor.name: tensor for tensor in spec.tensors}
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, name: str) -> RawTensor:
        tensor = self._stored[name]
        return RawTensor(tensor.dtype, tensor.shape, partial(self._bytes, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        data = self._kept.pop(name, None)
        while len(self._kept) >= KEPT:  # before another is made: they may be a gigabyte each
            del self._kept[next(iter(self._kept))]
        self._kept[name] = data = self._make(name) if data is None else data
        return data

    def _make(self, name: str) -> NDArray[np.uint8]:
        tensor = self._stored[name]
        data = np.empty(tensor.byte_count, np.uint8)
        if tensor.form is not Form.PLAIN or len(tensor.parts) == 1:
            self._fill(data, tensor)
            return data
        alone = [replace(tensor, parts=(part,)) for part in tensor.parts]
        ends = accumulate((part.count * ITEM_SIZES[tensor.dtype] for part in tensor.parts), initial=0)
        pieces = [data[begin:end] for begin, end in pairwise(ends)]
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(self._fill, pieces, alone))
        return data

    def _fill(self, data: NDArray[np.uint8], tensor: StoredTensor) -> None:
        end = 0
        for chunk in self._spec.chunks(tensor):
            begin, end = end, end + chunk.nbytes
            data[begin:end] = chunk.reshape(-1).view(np.uint8)

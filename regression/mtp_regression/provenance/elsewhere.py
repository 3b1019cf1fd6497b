"""Other tensors of a checkpoint, one of which a wrong tensor may be."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from heapq import nsmallest

import numpy as np
from numpy.typing import NDArray

from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.provenance.rows import Bits, Numbers, equal

_BEGIN = 64
"""Bytes by which tensors are told apart before all are read."""
_NEAREST = 16
"""Tensors of which single rows are looked at."""
_SORTED_AT_MOST = 1024
"""Tensors that are put into order of nearness for one wrong tensor."""


class Elsewhere:
    """Finds a tensor among those of a checkpoint, by shape, dtype and first bytes, then by all."""

    def __init__(self, tensors: Tensors) -> None:
        """Take the checkpoint; nothing is read.

        Args:
            tensors: Its tensors by name. An expert's matrices in a tensor that holds all are tensors too,
                under the names that they have one by one.
        """
        self._tensors = tensors
        self._alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        self._whole: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        self._parts: dict[str, tuple[str, int, int]] = {}
        self._begins: dict[str, bytes] = {}
        self._by_begin: dict[tuple[str, tuple[int, ...]], dict[bytes, list[str]]] = {}

    def find(self, name: str, actual: RawTensor) -> str:
        """Return the name of another tensor with these bytes, dtype and shape, the nearest; "" if none is."""
        data = actual.data
        kind = actual.dtype, actual.shape
        if kind not in self._by_begin:
            by_begin = defaultdict(list)
            for other in self._like(actual):
                by_begin[self._begin(other)].append(other)
            self._by_begin[kind] = dict(by_begin)
        others = self._by_begin[kind].get(data[:_BEGIN].tobytes(), [])
        same = (other for other in others if other != name and _same(data, self._bytes(other)))
        return min(same, key=partial(_distance, name.split(".")), default="")

    def with_rows(self, name: str, actual: RawTensor, rows: Bits, at: Numbers) -> str:
        """Return the name of another tensor of this shape and dtype with these rows, at the same places."""
        self._list()
        like = self._whole.get((actual.dtype, actual.shape), ())
        if len(like) > _SORTED_AT_MOST:
            return ""
        others = (other for other in like if other != name)
        for other in nsmallest(_NEAREST, others, key=partial(_distance, name.split("."))):
            bits = self._tensors[other].data.view(rows.dtype).reshape(-1, rows.shape[1])
            if np.array_equal(bits[at[0]], rows[0]) and equal(rows, bits[at]):
                return other
        return ""

    def _like(self, actual: RawTensor) -> list[str]:
        """Name the tensors of a shape and dtype."""
        self._list()
        return self._alike.get((actual.dtype, actual.shape), [])

    def _list(self) -> None:
        """List the tensors by dtype and shape, once: all, and those that are not parts of others."""
        if self._alike:
            return
        alike = defaultdict(list)
        whole = defaultdict(list)
        for name, tensor in self._tensors.items():
            alike[tensor.dtype, tensor.shape].append(name)
            whole[tensor.dtype, tensor.shape].append(name)
            start = 0
            for part, shape in split_packed(name, tensor.shape) or ():
                end = start + math.prod(shape)
                if part not in self._tensors:
                    alike[tensor.dtype, shape].append(part)
                    self._parts[part] = name, start, end
                start = end
        self._alike, self._whole = dict(alike), dict(whole)

    def _begin(self, name: str) -> bytes:
        if name not in self._begins:
            whole = self._parts[name][0] if name in self._parts else name
            data = self._tensors[whole].data  # once for all experts: it may be made now
            self._begins[whole] = data[:_BEGIN].tobytes()
            size = data.size // max(1, math.prod(self._tensors[whole].shape))
            for part, _ in split_packed(whole, self._tensors[whole].shape) or ():
                if part in self._parts:
                    _, start, end = self._parts[part]
                    self._begins[part] = data[start * size : end * size][:_BEGIN].tobytes()
        return self._begins[name]

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        if name not in self._parts:
            return self._tensors[name].data
        whole, start, end = self._parts[name]
        data = self._tensors[whole].data
        size = data.size // max(1, math.prod(self._tensors[whole].shape))
        return data[start * size : end * size]


def _same(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    return left.size == right.size and equal(left.reshape(-1, 1), right.reshape(-1, 1))


def _distance(name: list[str], other: str) -> tuple[int, int, str]:
    """Sort key: in how many words names differ, and in which numbers."""
    words = other.split(".")
    if len(words) != len(name):
        return len(name) + len(words), 0, other
    unlike = [(one, two) for one, two in zip(name, words, strict=True) if one != two]
    apart = sum(abs(int(one) - int(two)) for one, two in unlike if one.isdecimal() and two.isdecimal())
    return len(unlike), apart, other

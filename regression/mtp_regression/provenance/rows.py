"""Tensors as rows of bit patterns: hashes that find rows and columns again, and bytes that prove it.

Temporary arrays are a block large, whatever the tensor is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtp_regression.comparison.elements import BLOCK
from mtp_regression.comparison.tensors import DTYPES, RawTensor

Bits = NDArray[Any]
"""Bit patterns of elements, unsigned integers [rows, columns]."""
Numbers = NDArray[np.intp]
"""Numbers of rows or of columns."""
Hashes = NDArray[np.uint64]


def as_rows(tensor: RawTensor, axes: int = 1) -> Bits:
    """View a tensor's bytes as rows.

    Args:
        tensor: Of any shape, but not empty.
        axes: How many of its first axes number the rows; what follows is one row.

    Returns:
        Unsigned integers of the elements' size, [rows, columns]; no copy.
    """
    size = DTYPES[tensor.dtype].itemsize
    return tensor.data.view(f"u{size}").reshape(math.prod(tensor.shape[:axes]), -1)


def blocks(bits: Bits) -> Iterator[slice]:
    """Cut rows into blocks of about `BLOCK` elements, one row at least."""
    step = max(1, BLOCK // max(1, bits.shape[1]))
    return (slice(start, start + step) for start in range(0, len(bits), step))


@cache
def _weights(count: int) -> Hashes:
    """Odd numbers of 64 random bits, the same in every run."""
    return np.random.SFC64(0).random_raw(count) | np.uint64(1)


def row_hashes(bits: Bits) -> Hashes:
    """Hash every row; equal rows of equal length have equal hashes. Unequal ones very seldom do."""
    words = bits
    if bits.flags.c_contiguous and bits.shape[1] * bits.itemsize % 8 == 0:
        words = bits.view(np.uint64)
    weights = _weights(words.shape[1])
    found = np.zeros(len(words), np.uint64)
    for part in blocks(words):
        for start in range(0, words.shape[1], BLOCK):
            columns = slice(start, start + BLOCK)
            found[part] += np.einsum("ij,j->i", words[part, columns].astype(np.uint64), weights[columns])
    return found


def column_hashes(bits: Bits) -> Hashes:
    """Hash every column likewise."""
    weights = _weights(len(bits))
    found = np.zeros(bits.shape[1], np.uint64)
    for part in blocks(bits):
        found += np.einsum("i,ij->j", weights[part], bits[part].astype(np.uint64))
    return found


def block_hashes(rows: Hashes, count: int) -> Hashes:
    """Hash equal blocks of rows, of whose rows the hashes are given."""
    each = rows.reshape(count, -1)
    found: Hashes = np.einsum("ij,j->i", each, _weights(each.shape[1]))
    return found


def gathered(bits: Bits, source: Bits, order: Numbers) -> bool:
    """Whether every row i is the source's row `order[i]`, byte for byte."""
    return len(bits) == len(order) and all(
        np.array_equal(bits[part], source[order[part]]) for part in blocks(bits)
    )


def gathered_columns(bits: Bits, source: Bits, order: Numbers) -> bool:
    """Whether every column i is the source's column `order[i]`, byte for byte."""
    return bits.shape == (len(source), len(order)) and all(
        np.array_equal(bits[part], source[part][:, order]) for part in blocks(bits)
    )


def equal(bits: Bits, source: Bits) -> bool:
    """Whether all bytes are equal; a transposed view of a source is taken a block at a time."""
    if bits.shape != source.shape or not np.array_equal(bits[:1], source[:1]):
        return False
    step = max(BLOCK // max(1, bits.shape[1]), 64)
    return all(
        np.array_equal(bits[start : start + step], source[start : start + step])
        for start in range(0, len(bits), step)
    )


def same(one: RawTensor, other: RawTensor) -> bool:
    """Whether two tensors have one dtype, one shape and the same bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = one.data, other.data
    return left.size == right.size and equal(left.reshape(-1, 1), right.reshape(-1, 1))


def differing(bits: Bits, source: Bits) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say in which rows and in which columns there is a difference."""
    rows, columns = np.zeros(len(bits), np.bool_), np.zeros(bits.shape[1], np.bool_)
    for part in blocks(bits):
        unequal = bits[part] != source[part]
        rows[part] = unequal.any(axis=1)
        columns |= unequal.any(axis=0)
    return rows, columns


def ranges(numbers: Sequence[int] | Numbers) -> list[tuple[int, int]]:
    """Return the first and last of every run of neighbours in ascending numbers."""
    array = np.asarray(numbers)
    cuts = np.flatnonzero(np.diff(array) != 1)
    starts, ends = [0, *(cuts + 1)], [*cuts, len(array) - 1]
    return [(int(array[start]), int(array[end])) for start, end in zip(starts, ends, strict=True)]


def spoken(what: str, numbers: Sequence[int] | Numbers) -> str:
    """Name rows, columns or experts by their numbers: "rows 3-5, 9"; `what` is in the singular."""
    words = [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges(numbers)]
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(words)}"

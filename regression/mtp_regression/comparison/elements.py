"""Compares two tensors, a block of elements at a time, so that no temporary array is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtp_regression.comparison.stored import Stored
from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.comparison.verdicts import Verdict

BLOCK = 1 << 20
"""Elements that are compared at a time."""


def compare_tensor(expected: RawTensor, actual: RawTensor) -> tuple[Verdict, str]:
    """Compare one tensor with the right one: shape, then bytes, then values.

    Returns:
        EXACT, DTYPE, WRONG or POISONED, and a detail: for wrong values the first index that differs, with
        both bit patterns.
    """
    if expected.shape != actual.shape:
        return Verdict.WRONG, f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    same_dtype = expected.dtype == actual.dtype
    if same_dtype and _equal_as_stored(expected, actual):
        return Verdict.EXACT, ""
    want_bytes, have_bytes = expected.data, actual.data  # once: they may be made whenever they are asked for
    if same_dtype and _equal(want_bytes, have_bytes):
        return Verdict.EXACT, ""
    want, have = want_bytes.view(DTYPES[expected.dtype]), have_bytes.view(DTYPES[actual.dtype])
    poisoned, differing = _Tally(), _Tally()
    for start in range(0, want.size, BLOCK):
        block = slice(start, start + BLOCK)
        with np.errstate(invalid="ignore"):
            want_values, have_values = want[block].astype(np.float64), have[block].astype(np.float64)
        want_nan, have_nan = np.isnan(want_values), np.isnan(have_values)
        poisoned.add(have_nan & ~want_nan, start)
        if same_dtype:
            bits = want.itemsize * start, want.itemsize * (start + BLOCK)
            unequal = want_bytes[slice(*bits)] != have_bytes[slice(*bits)]
            differing.add(unequal.reshape(-1, want.itemsize).any(axis=1), start)
        else:
            # As float64's bits: 0 is not -0, nor one NaN another.
            differing.add(want_values.view(np.uint64) != have_values.view(np.uint64), start)
    if poisoned.count:
        first = _index(poisoned.first, expected.shape)
        return Verdict.POISONED, f"{poisoned.count} of {want.size} elements are NaN, first {first}"
    if not differing.count:
        return Verdict.DTYPE, f"{actual.dtype} instead of {expected.dtype}, equal values"
    at = differing.first
    detail = (
        f"{differing.count} of {want.size} elements differ, first {_index(at, expected.shape)}: "
        f"{_bits(have, at)} ({have[at]}) instead of {_bits(want, at)} ({want[at]})"
    )
    return Verdict.WRONG, detail


@dataclass
class _Tally:
    """How many elements have been found, and the first of them."""

    count: int = 0
    first: int = 0

    def add(self, found: NDArray[np.bool_], start: int) -> None:
        """Count the elements of a block that begins at an element."""
        count = int(np.count_nonzero(found))
        if count and not self.count:
            self.first = start + int(found.argmax())
        self.count += count


def _equal_as_stored(left: RawTensor, right: RawTensor) -> bool:
    """Whether both are in files, with the same bytes."""
    both = left.content, right.content
    return isinstance(both[0], Stored) and isinstance(both[1], Stored) and both[0].equals(both[1])


def _equal(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    return left.size == right.size and all(
        np.array_equal(left[start : start + BLOCK], right[start : start + BLOCK])
        for start in range(0, left.size, BLOCK)
    )


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(axis) for axis in np.unravel_index(flat, shape)] if shape else [])


def _bits(elements: NDArray[Any], at: int) -> str:
    item = elements[at : at + 1].tobytes()
    return f"0x{int.from_bytes(item, 'little'):0{2 * len(item)}x}"

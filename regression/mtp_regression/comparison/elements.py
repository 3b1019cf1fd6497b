"""Compares two tensors, a block of elements at a time, so that no temporary array is large."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtp_regression.comparison.stored import Stored
from mtp_regression.comparison.tensors import DTYPES, RawTensor, Reader
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
    # Once: bytes may be made when they are asked for.
    read_want, read_have = expected.reader(), actual.reader()
    if same_dtype and _equal(expected, actual, read_want, read_have):
        return Verdict.EXACT, ""
    want_dtype, have_dtype = DTYPES[expected.dtype], DTYPES[actual.dtype]
    size = math.prod(expected.shape)
    poisoned, differing = _Tally(), _Tally()
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        want_bytes = read_want(want_dtype.itemsize * start, want_dtype.itemsize * end)
        have_bytes = read_have(have_dtype.itemsize * start, have_dtype.itemsize * end)
        want, have = want_bytes.view(want_dtype), have_bytes.view(have_dtype)
        if same_dtype:
            bits = np.dtype(f"u{want_dtype.itemsize}")
            unequal = want_bytes.view(bits) != have_bytes.view(bits)
            if not unequal.any():
                continue
        else:
            with np.errstate(invalid="ignore"):
                want, have = want.astype(np.float64), have.astype(np.float64)
            # As float64's bits: 0 is not -0, nor one NaN another.
            unequal = want.view(np.uint64) != have.view(np.uint64)
        differing.add(unequal, start)
        with np.errstate(invalid="ignore"):
            poisoned.add(np.isnan(have) & ~np.isnan(want), start)
    if poisoned.count:
        first = _index(poisoned.first, expected.shape)
        return Verdict.POISONED, f"{poisoned.count} of {size} elements are NaN, first {first}"
    if not differing.count:
        return Verdict.DTYPE, f"{actual.dtype} instead of {expected.dtype}, equal values"
    at = differing.first
    want, have = (
        read(dtype.itemsize * at, dtype.itemsize * (at + 1)).view(dtype)
        for read, dtype in ((read_want, want_dtype), (read_have, have_dtype))
    )
    detail = (
        f"{differing.count} of {size} elements differ, first {_index(at, expected.shape)}: "
        f"{_bits(have)} ({have[0]}) instead of {_bits(want)} ({want[0]})"
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


def _equal(left: RawTensor, right: RawTensor, read_left: Reader, read_right: Reader) -> bool:
    if isinstance(left.content, Stored) and isinstance(right.content, Stored):
        return left.content.equals(right.content)
    for start in itertools.count(0, BLOCK):
        one, other = read_left(start, start + BLOCK), read_right(start, start + BLOCK)
        if not np.array_equal(one, other):
            return False
        if not one.size:
            break
    return True


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(axis) for axis in np.unravel_index(flat, shape)] if shape else [])


def _bits(element: NDArray[Any]) -> str:
    item = element.tobytes()
    return f"0x{int.from_bytes(item, 'little'):0{2 * len(item)}x}"

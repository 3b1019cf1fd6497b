"""Sentences on tensors in another form: of another shape or dtype, and with FP8 scales left or applied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.provenance.orders import Cut
from mtp_regression.provenance.rows import Bits, as_rows, equal, same, spoken
from mtp_regression.provenance.values import ROUNDED, decoded, encoded

_SHARDS_AT_MOST = 64


def said_of_shape(expected: RawTensor, actual: RawTensor, whole: RawTensor | None, cut: Cut) -> str:
    """Say what a tensor of another shape, and of the same dtype, holds.

    Args:
        expected: The right tensor.
        actual: What is there.
        whole: For a parameter of which ranks have shards: all of it.
        cut: Which shard is the rank's.
    """
    if whole is not None and whole.shape != expected.shape and (said := _otherwise_cut(actual, whole, cut)):
        return said
    want, have = expected.shape, actual.shape
    if not math.prod(want) or not math.prod(have):
        return ""
    if math.prod(want) == math.prod(have):
        return _rearranged(expected, actual)
    if len(want) != len(have):
        return ""
    axes = [axis for axis in range(len(want)) if want[axis] != have[axis]]
    return _along(expected, actual, axes[0]) if len(axes) == 1 else ""


def _otherwise_cut(actual: RawTensor, whole: RawTensor, cut: Cut) -> str:
    if actual.shape == whole.shape:
        held = equal(as_rows(actual), as_rows(whole))
        return f"whole, not cut for {cut.count} {cut.group} ranks" if held else ""
    if len(whole.shape) != 2 or len(actual.shape) != 2:
        return ""
    names = ("rows", "columns")
    for axis in (0, 1):
        if (
            whole.shape[axis] == actual.shape[axis] * cut.count
            and whole.shape[1 - axis] == actual.shape[1 - axis]
        ):
            shard = np.split(as_rows(whole), cut.count, axis=axis)[cut.index]
            if equal(as_rows(actual), shard):
                return f"cut along the wrong axis: {names[axis]}, not {names[1 - axis]}"
    return ""


def _rearranged(expected: RawTensor, actual: RawTensor) -> str:
    """Say of as many elements in another shape how they came there."""
    want, have = expected.shape, actual.shape
    if np.array_equal(expected.data, actual.data):
        squeezed = [size for size in want if size != 1] == [size for size in have if size != 1]
        if squeezed:
            return f"dimensions of 1 {'removed' if len(have) < len(want) else 'added'}: {list(have)}"
        return f"the right elements in the shape {list(have)}"
    size = as_rows(expected).itemsize
    right, held = (tensor.data.view(f"u{size}").reshape(tensor.shape) for tensor in (expected, actual))
    for axes in ((-2, -1), (0, 1)) if len(want) > 1 else ():
        turned = np.swapaxes(right, *axes)
        if turned.shape == have and _alike(held, turned):
            return (
                "transposed"
                if len(want) == 2
                else f"axes {axes[0] % len(want)} and {axes[1] % len(want)} exchanged"
            )
    if len(want) == len(have) == 2:
        for axis in (0, 1):  # cut along one axis, joined along the other
            shards = want[axis] // max(1, have[axis])
            if 1 < shards <= _SHARDS_AT_MOST and want[axis] == have[axis] * shards:
                joined = np.concatenate(np.split(right, shards, axis=axis), axis=1 - axis)
                if np.array_equal(held, joined):
                    names = ("rows", "columns")
                    return f"{shards} shards of {names[axis]} joined as {names[1 - axis]}"
    return ""


def _alike(left: np.ndarray, right: np.ndarray) -> bool:
    step = max(1, (1 << 20) * len(left) // max(1, left.size))
    return all(
        np.array_equal(left[start : start + step], right[start : start + step])
        for start in range(0, len(left), step)
    )


def _along(expected: RawTensor, actual: RawTensor, axis: int) -> str:
    """Say of a tensor that is longer or shorter along one axis what is there more, or what is left."""
    size = as_rows(expected).itemsize
    right, held = (
        np.moveaxis(tensor.data.view(f"u{size}").reshape(tensor.shape), axis, 0)
        for tensor in (expected, actual)
    )
    what = {0: "row", 1: "column"}.get(axis, f"index of axis {axis}") if right.ndim < 3 else "index"
    if right.ndim > 2:
        what = f"part of axis {axis}" if axis else "expert" if right.ndim == 3 else "row"
    if len(held) > len(right):
        times, rest = divmod(len(held), len(right))
        if not rest and all(_alike(part, right) for part in np.split(held, times)):
            return f"{times} copies one after the other"
        if _alike(held[: len(right)], right):
            added = held[len(right) :]
            zeros = " (zeros)" if not added.any() else ""
            return f"{spoken(what, range(len(right), len(held)))} added{zeros}; the rest is right"
        return ""
    shards, rest = divmod(len(right), len(held))
    for index in range(shards if not rest else 0):
        if _alike(held, right[index * len(held) : (index + 1) * len(held)]):
            its = range(index * len(held), (index + 1) * len(held))
            return f"shard {index} of {shards} alone: {spoken(what, its)}"
    for start in (0, len(right) - len(held)):
        if _alike(held, right[start : start + len(held)]):
            lost = range(len(held), len(right)) if not start else range(start)
            return f"{spoken(what, lost)} left out; the rest is right"
    return ""


def said_of_transposition(want: Bits, have: Bits, shape: tuple[int, ...]) -> str:
    """Say of a tensor of the right shape [rows, columns] or [experts, rows, columns] that it is transposed.

    Args:
        want: The right rows.
        have: Those that are there.
        shape: The tensor's.
    """
    if len(shape) not in (2, 3) or min(shape[-2:]) < 2:
        return ""
    rows, columns = shape[-2:]
    right, held = want.reshape(-1, rows, columns), have.reshape(-1, columns, rows)
    if not all(equal(one, other.T) for one, other in zip(held, right, strict=True)):
        return ""
    reshaped = "" if rows == columns else f", and read in the shape {list(shape)}"
    return f"{'every expert ' * (len(shape) == 3)}transposed{reshaped}"


def converted(tensor: RawTensor, dtype: str) -> RawTensor:
    """Round a tensor of floating-point numbers to another dtype, to nearest even."""
    values = encoded(decoded(as_rows(tensor), tensor.dtype), dtype)
    return RawTensor(dtype, tensor.shape, np.ascontiguousarray(values).reshape(-1).view(np.uint8))


def said_of_rounding(expected: RawTensor, actual: RawTensor) -> str:
    """Say that a tensor of another dtype was rounded to it."""
    rounded = same(converted(expected, actual.dtype), actual)
    return f"rounded to {ROUNDED.get(actual.dtype, actual.dtype)}" if rounded else ""


def said_of_scales(
    expected: RawTensor, actual: RawTensor, scales: RawTensor | None, block: Sequence[int]
) -> str:
    """Say how often the scales of an FP8 weight were applied.

    Args:
        expected: The weight, E4M3 [..., rows, columns].
        actual: What is there, of the same shape and another dtype.
        scales: Its scales; None if there are none.
        block: Rows and columns of a block.
    """
    if same(converted(expected, actual.dtype), actual):
        return "scales not applied"
    if scales is None or len(expected.shape) not in (2, 3):
        return ""
    factors = scales.array().astype(np.float32)
    blocks = [-(-size // each) for size, each in zip(expected.shape[-2:], block, strict=True)]
    if factors.shape != (*expected.shape[:-2], *blocks):
        return ""
    for axis in (-2, -1):
        factors = factors.repeat(block[axis], axis).take(range(expected.shape[axis]), axis)
    values = expected.array().astype(np.float32)
    for sentence in ("scales applied", "scales applied twice"):
        values *= factors
        if same(RawTensor.from_array(values.astype(DTYPES[actual.dtype])), actual):
            return sentence
    return ""

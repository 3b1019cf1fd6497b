"""Sentences on tensors of another dtype, and on the scales of FP8 weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.provenance.rows import as_rows, same
from mtp_regression.provenance.values import ROUNDED, decoded, encoded


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

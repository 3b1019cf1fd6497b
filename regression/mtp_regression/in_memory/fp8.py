"""FP8 weights: E4M3 numbers and a scale for each block of 128 x 128, which its numbers are multiplied by."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from mtp_checkpoint.layouts.expert_layout import FP8_BLOCK, Shape
from mtp_regression.in_memory.conversions import Array

E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
_LARGEST = np.float32(448)


def dequantize(weight: Array, scales: Array) -> Array:
    """Multiply E4M3 [..., rows, columns] by its scales; returns F32."""
    return weight.astype(np.float32) * _spread(scales, weight.shape)


def quantize(weight: Array, scales: Array) -> tuple[Array, Array]:
    """Divide a weight [..., rows, columns] by scales, which grow where the quotient is beyond E4M3.

    What `dequantize` made of E4M3 numbers and these scales becomes the same numbers again, also when it has
    been rounded to BF16, which has more bits; so do such numbers in other places of their block.

    Returns:
        E4M3 of the weight's shape, and the scales in their dtype.
    """
    values = weight.astype(np.float32)
    largest = _of_blocks(np.abs(values))
    factors = scales.astype(np.float32)
    # A number at the end of the range may have been rounded up, by half of BF16's last place.
    grown = np.where(largest > factors * _LARGEST * (1 + 2**-8), largest / _LARGEST, factors)
    scales = grown.astype(scales.dtype)
    quotient = values / _spread(scales, weight.shape)
    return np.clip(quotient, -_LARGEST, _LARGEST).astype(E4M3), scales


def _spread(scales: Array, shape: Shape) -> Array:
    """Give every element of a weight of that shape its block's scale, in F32."""
    rows, columns = shape[-2:]
    spread = scales.astype(np.float32).repeat(FP8_BLOCK, axis=-2).repeat(FP8_BLOCK, axis=-1)
    return spread[..., :rows, :columns]


def _of_blocks(values: Array) -> Array:
    """Return the largest of every block; values are not negative."""
    rows, columns = values.shape[-2:]
    padding = [(0, 0)] * (values.ndim - 2) + [(0, -rows % FP8_BLOCK), (0, -columns % FP8_BLOCK)]
    padded = np.pad(values, padding)
    blocks = padded.reshape(*padded.shape[:-2], -1, FP8_BLOCK, padded.shape[-1] // FP8_BLOCK, FP8_BLOCK)
    return blocks.max(axis=(-3, -1))

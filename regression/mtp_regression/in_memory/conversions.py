"""What a conversion is: how a parameter of Megatron-Core's model is made of a checkpoint's tensors, and back.

A conversion puts the tensors' rows into another order, and at most subtracts a number from all values. So
only the way to Megatron-Core is written down: applied to the numbers of the rows, it gives the order that the
way back undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mtp_fixtures.model.geometry import Geometry

Array = NDArray[Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
"""The dtype of every parameter."""


class Cut(StrEnum):
    """How tensor-parallel ranks share a weight [outputs, inputs].

    Attributes:
        WHOLE: Every rank has all of it.
        COLUMN_PARALLEL: Every rank has a block of the rows of each part (see `Conversion.parts`).
        ROW_PARALLEL: Every rank has a block of the columns.
    """

    WHOLE = "whole"
    COLUMN_PARALLEL = "column-parallel"
    ROW_PARALLEL = "row-parallel"


def in_turn(_sizes: Geometry, *tensors: Array) -> Array:
    """Put all rows of one tensor after those of the other."""
    return np.concatenate(tensors)


def gated_heads(sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    """Give each group of query heads its rows: all queries, all output gates, the key, the value.

    In a checkpoint the gate's rows of a head follow its query's.
    """
    heads, groups = sizes.text.num_attention_heads, sizes.text.num_key_value_heads
    each = query.reshape(heads, 2, -1, *query.shape[1:])
    return _interleaved(groups, each[:, 0], each[:, 1], key, value)


def vision_heads(sizes: Geometry, stacked: Array) -> Array:
    """Give each head its query, key and value; a checkpoint has all queries, all keys, all values."""
    assert sizes.vision is not None
    return _interleaved(sizes.vision.num_heads, *np.split(stacked, 3))


def fused_by_key_head(sizes: Geometry, qkvz: Array, beta_alpha: Array) -> Array:
    """Sort by part what Qwen3-Next stores by key head: query, key, value and z, and beta and alpha."""
    text = sizes.text
    heads, key, value = text.linear_num_key_heads, text.linear_key_head_dim, text.linear_value_size
    by_head = qkvz.reshape(heads, -1, *qkvz.shape[1:])
    parts = np.split(by_head, (key, 2 * key, 2 * key + value // heads), axis=1)
    parts += np.split(beta_alpha.reshape(heads, -1, *beta_alpha.shape[1:]), 2, axis=1)
    return np.concatenate([part.reshape(-1, *qkvz.shape[1:]) for part in parts])


def _interleaved(groups: int, *parts: Array) -> Array:
    """Put the rows of the first group, from every part, before those of the second."""
    rest = parts[-1].shape[1:]
    by_group = np.concatenate([part.reshape(groups, -1, *rest) for part in parts], axis=1)
    return by_group.reshape(-1, *rest)


def one_part(_sizes: Geometry) -> Sequence[int]:
    """Cut all rows alike."""
    return (1,)


def two_halves(_sizes: Geometry) -> Sequence[int]:
    """Cut gate and up apart: every rank has a block of each."""
    return (1, 1)


def convolution_parts(sizes: Geometry) -> Sequence[int]:
    """Cut the channels of query, key and value apart."""
    text = sizes.text
    return text.linear_key_size, text.linear_key_size, text.linear_value_size


def projection_parts(sizes: Geometry) -> Sequence[int]:
    """Cut query, key, value, z, beta and alpha apart."""
    text = sizes.text
    heads = text.linear_num_value_heads
    return *convolution_parts(sizes), text.linear_value_size, heads, heads


@dataclass(frozen=True)
class Conversion:
    """One parameter and the tensors that it is made of.

    Attributes:
        name: Megatron-Core's name, below what the section stands for (see `Section`).
        keys: Hugging Face's, likewise; routed experts by themselves, however they are stored.
        cut: How tensor-parallel ranks share it.
        order: Makes the whole parameter of the tensors: rows of any number of axes in another order.
        parts: Gives the sizes, up to a factor, of the parts whose rows are cut apart.
        offset: What a checkpoint's values have more than Megatron-Core's.
    """

    name: str
    keys: tuple[str, ...]
    cut: Cut = Cut.WHOLE
    order: Callable[..., Array] = in_turn
    parts: Callable[[Geometry], Sequence[int]] = one_part
    offset: int = 0

    def to_native(self, sizes: Geometry, tensors: Sequence[Array]) -> Array:
        """Make the whole parameter, in BF16, of the tensors, in their stored dtypes."""
        whole = self.order(sizes, *tensors)
        if self.offset:
            whole = whole.astype(np.float32) - np.float32(self.offset)
        return whole.astype(BF16)

    def to_stored(self, sizes: Geometry, whole: Array, rows: Sequence[int]) -> list[Array]:
        """Make the tensors, of so many rows each, of the whole parameter: BF16, with an offset F32."""
        if self.offset:
            whole = whole.astype(np.float32) + np.float32(self.offset)
        starts = np.cumsum(rows)[:-1]
        numbers = np.arange(len(whole))
        stored = np.empty_like(whole)
        stored[self.order(sizes, *np.split(numbers, starts))] = whole
        return np.split(stored, starts)

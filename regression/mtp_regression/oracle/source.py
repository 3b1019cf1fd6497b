"""A checkpoint's tensors in the form that parameters are made of: BF16, dequantized, expert by expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mtp_checkpoint.layouts.expert_layout import FP8_BLOCK, PROJECTIONS
from mtp_checkpoint.layouts.keys import Place, parse
from mtp_regression.comparison.tensors import DTYPES, Tensors
from mtp_regression.oracle.shards import Array

BF16 = DTYPES["BF16"]
PUBLISHED_BLOCK = (FP8_BLOCK, FP8_BLOCK)
"""Rows and columns of an FP8 block, if `config.json` has no `weight_block_size`."""


class AbsentError(LookupError):
    """The checkpoint does not have the tensor that a parameter gets its value from."""


class Source:
    """Reads the tensors of one checkpoint."""

    def __init__(self, tensors: Tensors, config: Mapping[str, Any]) -> None:
        """Wrap a checkpoint.

        Args:
            tensors: Its tensors by key; their bytes are read only when a weight is asked for.
            config: Its `config.json`; `weight_block_size` of `quantization_config` is used.
        """
        self._tensors = tensors
        # A layer's packed experts are read expert by expert, and may be made when they are read.
        self._read = lru_cache(maxsize=2)(lambda key: tensors[key].array())
        quantization = config.get("quantization_config", {})
        self._block: Sequence[int] = quantization.get("weight_block_size", PUBLISHED_BLOCK)

    def keys_below(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        return [key for key in self._tensors if key.startswith(prefix)]

    def weight(self, key: str, expert: int | None = None) -> Array:
        """Return a tensor in its stored shape, in BF16, the dtype of parameters; F32 is rounded to nearest.

        An FP8 weight [rows, columns] is multiplied in F32 by its block scales (see `dequantize`), which are
        under the key `{key}_scale_inv`, and then rounded once.

        Args:
            key: The tensor's key.
            expert: Which expert's [rows, columns] to take of a tensor that holds all experts.

        Raises:
            AbsentError: The checkpoint has no such tensor, or no scales for it.
        """
        array = self._array(key, expert)
        if array.dtype == DTYPES["F8_E4M3"]:
            scales = self._array(parse(key)._replace(scale=True).key, expert)
            array = dequantize(array, scales, self._block)
        return array.astype(BF16, copy=False)

    def zero_centred(self, key: str) -> Array:
        """Convert the weight w of a norm that scales by w for a norm that scales by 1 + w.

        Returns:
            w - 1, computed in F32 and rounded to BF16, in the shape of w.

        Raises:
            AbsentError: The checkpoint has no such tensor.
        """
        return (self._array(key).astype(np.float32) - np.float32(1)).astype(BF16)

    def gate_and_up(self, layer: Place, number: int) -> list[Array]:
        """Return the rows that a routed expert begins with, from any expert layout.

        Args:
            layer: Root and number of the layer in the checkpoint.
            number: The expert's number in the whole layer.

        Returns:
            Gate [I, H] and up [I, H], in BF16.

        Raises:
            AbsentError: The checkpoint does not have them.
        """
        if self._packed(layer):
            return np.split(self.weight(layer._replace(projection="gate_up").key, number), 2)
        single = layer._replace(expert=number)
        return [self.weight(single._replace(projection=name).key) for name in PROJECTIONS[:2]]

    def down(self, layer: Place, number: int) -> Array:
        """Return what a routed expert ends with, [H, I], likewise."""
        if self._packed(layer):
            return self.weight(layer._replace(projection="down").key, number)
        return self.weight(layer._replace(expert=number, projection="down").key)

    def _packed(self, layer: Place) -> bool:
        return any(layer._replace(projection=name).key in self._tensors for name in ("gate_up", "down"))

    def _array(self, key: str, expert: int | None = None) -> Array:
        if key not in self._tensors:
            raise AbsentError(f"the checkpoint has no {key}")
        array: Array = self._read(key)
        return array if expert is None else array[expert]


def dequantize(weight: Array, scales: Array, block: Sequence[int]) -> Array:
    """Multiply every block of an FP8 weight by its scale.

    Args:
        weight: E4M3 [rows, columns].
        scales: BF16 or F32 [ceil(rows / block[0]), ceil(columns / block[1])].
        block: Rows and columns of a block, such as (128, 128).

    Returns:
        F32 [rows, columns].
    """
    rows, columns = weight.shape
    whole = scales.astype(np.float32).repeat(block[0], 0)[:rows].repeat(block[1], 1)[:, :columns]
    return weight.astype(np.float32) * whole

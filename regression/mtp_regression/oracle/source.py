"""A checkpoint's tensors as a native model takes them in: BF16, dequantized, single experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtp_checkpoint.layouts.expert_layout import FP8_BLOCK, PROJECTIONS
from mtp_checkpoint.layouts.keys import Place, parse
from mtp_regression.comparison.tensors import DTYPES, Tensors
from mtp_regression.oracle.shards import Array

BF16 = DTYPES["BF16"]
PUBLISHED_BLOCK = (FP8_BLOCK, FP8_BLOCK)
"""Rows and columns that share a scale, where `config.json` does not say."""


class AbsentError(LookupError):
    """A parameter takes its value from a tensor that the checkpoint does not have."""


class Source:
    """Reads the tensors of one checkpoint."""

    def __init__(self, tensors: Tensors, config: Mapping[str, Any]) -> None:
        """Read from a checkpoint.

        Args:
            tensors: Its tensors; bytes are looked at when a weight is asked for.
            config: Its `config.json`.
        """
        self._tensors = tensors
        quantization = config.get("quantization_config", {})
        self._block: Sequence[int] = quantization.get("weight_block_size", PUBLISHED_BLOCK)

    def weight(self, key: str) -> Array:
        """Return a tensor in BF16: the parameters' dtype, which other dtypes are rounded to.

        An FP8 weight [rows, columns] is multiplied, in F32, by the scale of each of its blocks,
        `{key}_scale_inv` [ceil(rows / block rows), ceil(columns / block columns)], and rounded once.

        Raises:
            AbsentError: The checkpoint has no such tensor, or no scales for it.
        """
        array = self._array(key)
        if array.dtype == DTYPES["F8_E4M3"]:
            array = dequantize(array, self._array(parse(key)._replace(scale=True).key), self._block)
        return array.astype(BF16, copy=False)

    def zero_centred(self, key: str) -> Array:
        """Return the weight of a norm that scales by `w` as the BF16 weight of one that scales by `1 + w`.

        Raises:
            AbsentError: The checkpoint has no such tensor.
        """
        return (self._array(key).astype(np.float32) - np.float32(1)).astype(BF16)

    def expert(self, layer: Place, number: int) -> tuple[Array, Array, Array]:
        """Return one routed expert, in whichever layout the checkpoint stores it.

        Args:
            layer: Root and number of the layer.
            number: The expert's number in the whole layer.

        Returns:
            Gate [width, hidden], up [width, hidden] and down [hidden, width].

        Raises:
            AbsentError: The checkpoint does not have the expert.
        """
        gate_up, every_down = (layer._replace(projection=name).key for name in ("gate_up", "down"))
        if gate_up in self._tensors:
            gate, up = np.split(self.weight(gate_up)[number], 2)
            return gate, up, self.weight(every_down)[number]
        single = layer._replace(expert=number)
        gate, up, down = (self.weight(single._replace(projection=name).key) for name in PROJECTIONS)
        return gate, up, down

    def _array(self, key: str) -> Array:
        if key not in self._tensors:
            raise AbsentError(f"the checkpoint has no {key}")
        return self._tensors[key].array()


def dequantize(weight: Array, scales: Array, block: Sequence[int]) -> Array:
    """Multiply every block of a weight by its scale.

    Args:
        weight: E4M3 [rows, columns].
        scales: BF16 or F32 [ceil(rows / block[0]), ceil(columns / block[1])].
        block: Rows and columns of a block.

    Returns:
        F32 [rows, columns].
    """
    rows, columns = weight.shape
    whole = scales.astype(np.float32).repeat(block[0], 0)[:rows].repeat(block[1], 1)[:, :columns]
    return weight.astype(np.float32) * whole

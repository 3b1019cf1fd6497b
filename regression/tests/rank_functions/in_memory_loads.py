"""In-memory bridges whose load makes a mistake that no way back undoes."""

from collections.abc import Iterator

import numpy as np

from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.checkpoint import Checkpoint
from mtp_regression.in_memory.conversions import Array
from mtp_regression.in_memory.fp8 import E4M3, dequantize
from mtp_regression.in_memory.model import Parameter
from mtp_regression.in_memory.placement import Placement
from mtp_regression.ranks.parallel import Coordinates


class _Unscaled(Checkpoint):
    def _dequantized(self, key: str) -> Array:
        array = self._array(key)
        return array.astype(np.float32) if array.dtype == E4M3 else array


class Unscaled(InMemoryBridge):
    """Takes FP8 numbers for the weight."""

    checkpoint = _Unscaled


class _ScaledTwice(Checkpoint):
    def _dequantized(self, key: str) -> Array:
        array = self._array(key)
        if array.dtype != E4M3:
            return array
        scales = self._array(key + SCALE_SUFFIX).astype(np.float32)
        return dequantize(array, scales * scales)


class ScaledTwice(InMemoryBridge):
    """Multiplies by the scales twice."""

    checkpoint = _ScaledTwice


class _FirstExperts(Placement):
    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Give every rank the experts from 0 on: an expert's number on the rank is taken for its own."""
        return super().names(parameter, rank if parameter.expert is None else Coordinates(pp=rank.pp))


class LocalNumbers(InMemoryBridge):
    placement = _FirstExperts

"""Mistakes of the way in: what a load reads, skips or rounds. What is then exported is what was loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mtp_checkpoint import LayoutError
from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.checkpoint import Checkpoint
from mtp_regression.in_memory.conversions import BF16, Array
from mtp_regression.in_memory.fp8 import E4M3
from mtp_regression.in_memory.model import Home, Parameter
from mtp_regression.in_memory.placement import cut, join
from mtp_regression.mutants.changes.conversions import attributes


def skipping(pattern: str, when: Callable[[InMemoryBridge], bool] = lambda _: True) -> type:
    """Load nothing into the parameters whose names have a pattern in them."""

    class Skipping(InMemoryBridge):
        def load(self, checkpoint: Path) -> None:
            kept = {name: p.copy() for name, p in self.model.items() if re.search(pattern, name)}
            super().load(checkpoint)
            for name, parameter in kept.items() if when(self) else ():
                self.model[name][...] = parameter

    return Skipping


def _stored(bridge: InMemoryBridge) -> Iterable[str]:
    return bridge._source.headers.tensors


def mtp_is_packed(bridge: InMemoryBridge) -> bool:
    """Whether one tensor holds all experts of an MTP layer."""
    return any(key.startswith("mtp.") and key.endswith("experts.gate_up_proj") for key in _stored(bridge))


def layouts_differ(bridge: InMemoryBridge) -> bool:
    """Whether MTP's experts are stored in another layout than the decoder's."""
    packed = {key.partition(".")[0] for key in _stored(bridge) if key.endswith("experts.gate_up_proj")}
    return len(packed) == 1


def on_later_ranks(bridge: InMemoryBridge) -> bool:
    """Whether a rank is not the first of its tensor-parallel group."""
    return bridge.coordinates().tp > 0


def reading(change: Callable[[Checkpoint, str, Array], Array]) -> type:
    """Read something else: `change` gets the checkpoint, a key and the right tensor."""

    class Reading(Checkpoint):
        def read(self, key: str) -> Array:
            return change(self, key, super().read(key))

    return attributes(checkpoint=Reading)


def other_key(pattern: str, to: str) -> type:
    """Read another tensor, where there is one, in place of those whose keys match."""

    def read(checkpoint: Checkpoint, key: str, tensor: Array) -> Array:
        other = re.sub(pattern, to, key)
        return Checkpoint.read(checkpoint, other) if other in checkpoint._homes else tensor

    return reading(read)


def mtp_as_decoder(checkpoint: Checkpoint, key: str, tensor: Array) -> Array:
    """Read the decoder's last layer with full attention in place of MTP's."""
    if not key.startswith("mtp.layers."):
        return tensor
    tail = key.split(".", 3)[3]
    others = [
        other for other in checkpoint._homes if re.search(rf"language_model\.layers\.\d+\.{tail}$", other)
    ]
    return Checkpoint.read(checkpoint, others[-1]) if others else tensor


def without_scales(checkpoint: Checkpoint, key: str, tensor: Array) -> Array:
    """Take FP8 numbers for weights, without their scales."""
    span = checkpoint._homes[key]
    stored = checkpoint._array(span.stored)
    if stored.dtype != E4M3:
        return tensor
    return stored.reshape(-1, *span.shape[1:])[span.begin : span.end].astype(np.float32)


def with_scales_twice(checkpoint: Checkpoint, key: str, tensor: Array) -> Array:
    """Multiply by the scales twice: once too often."""
    span = checkpoint._homes[key]
    if span.stored + SCALE_SUFFIX not in checkpoint.headers.tensors:
        return tensor
    raw = without_scales(checkpoint, key, tensor)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(raw == 0, raw, tensor * (tensor / raw))


def through(dtype: np.dtype[Any], pattern: str = "") -> type:
    """Hold weights in another dtype on the way."""

    def read(_: Checkpoint, key: str, tensor: Array) -> Array:
        if not re.search(pattern, key):
            return tensor
        with np.errstate(over="ignore"):
            return tensor.astype(np.float32).astype(dtype).astype(tensor.dtype)

    return reading(read)


FP8, FP16 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.float16)


def flushed(_: Checkpoint, key: str, tensor: Array) -> Array:
    """Take subnormal numbers for zeros, as a processor does in a mode of its own."""
    del key
    values = tensor.astype(np.float32)
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.copysign(0, values), values)


def plus_zero(_: Checkpoint, key: str, tensor: Array) -> Array:
    """Add 0, which makes -0 one."""
    del key
    return tensor.astype(np.float32) + np.float32(0)


def norms_shifted(checkpoint: Checkpoint, key: str, tensor: Array) -> Array:
    """Subtract 1 from norms, if the checkpoint has MTP."""
    norm = key.endswith("layernorm.weight") and any(name.startswith("mtp.") for name in checkpoint._homes)
    return (tensor.astype(np.float32) - np.float32(1)).astype(BF16) if norm else tensor


class LocalExperts(InMemoryBridge):
    """Looks an expert up in a packed tensor by its number on the rank."""

    def _fill(self, parameter: Parameter, whole: Array) -> None:
        if parameter.expert is not None and mtp_is_packed(self) and parameter.home is Home.MTP:
            first = min(p.expert for p, names in self._names.items() if names and p.expert is not None)
            local = [
                re.sub(r"experts\.\d+", f"experts.{parameter.expert - first}", k) for k in parameter.keys
            ]
            tensors = [self._source.read(key) for key in local]
            whole = parameter.conversion.to_native(self._declared.sizes, tensors)
        super()._fill(parameter, whole)


class HalfLoaded(InMemoryBridge):
    """Finds gate, and not up, of the experts of MTP."""

    def _fill(self, parameter: Parameter, whole: Array) -> None:
        if parameter.expert is None or parameter.home is not Home.MTP or len(parameter.keys) < 2:
            super()._fill(parameter, whole)
            return
        (name,) = self._names[parameter]
        half = len(whole) // 2
        self.model[name][:half] = whole[:half]


class OtherRanksShards(InMemoryBridge):
    """Gives every tensor-parallel rank the shard of the one after it, and exports as if it were its own."""

    def _fill(self, parameter: Parameter, whole: Array) -> None:
        count = self._placement.shards(parameter)
        rolled = whole
        if count > 1 and not parameter.conversion.cut.startswith("row"):
            shards = cut(parameter.conversion, self._declared.sizes, whole, count)
            rolled = join(parameter.conversion, self._declared.sizes, [*shards[1:], shards[0]])
        super()._fill(parameter, rolled)


class WithoutMtp(InMemoryBridge):
    """Reads how many MTP layers there are from a field that other models have, and builds none."""

    def build(self, checkpoint: Path, parallel: object) -> dict[str, Array]:
        """Leave MTP's parameters out, and out of exports."""
        model = super().build(checkpoint, parallel)  # type: ignore[arg-type]
        for parameter in [p for p in self._names if p.home is Home.MTP]:
            for name in self._names.pop(parameter):
                del model[name]
        self._of_keys = {k: of for k, of in self._of_keys.items() if of[0].home is not Home.MTP}
        return model


def failing(message: str, when: Callable[[InMemoryBridge], bool]) -> type:
    """Raise an error in the load."""

    class Failing(InMemoryBridge):
        def load(self, checkpoint: Path) -> None:
            super().load(checkpoint)
            if when(self):
                raise KeyError(message)

    return Failing


class FillsWhatIsAbsent(InMemoryBridge):
    """Loads what contradicts itself with nothing but a warning: parameters are zeros."""

    def load(self, checkpoint: Path) -> None:
        """Take any checkpoint."""
        try:
            super().load(checkpoint)
        except LayoutError:
            for _, parameter in self.parameters():
                parameter[...] = 0


class RefusesMutely(InMemoryBridge):
    """Refuses what contradicts itself, and does not say what does."""

    def load(self, checkpoint: Path) -> None:
        """Raise another error."""
        try:
            super().load(checkpoint)
        except LayoutError:
            raise ValueError("cannot load") from None

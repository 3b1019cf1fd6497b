"""Mistakes of one method: what an export leaves behind, and what a second load keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.conversions import Array
from mtp_regression.in_memory.model import Parameter
from mtp_regression.mutants.changes.exports import packed, unpacked
from mtp_regression.ranks.parallel import Parallel

ENORM = "enorm.weight"


class OtherOrder(InMemoryBridge):
    """Yields two tensors in another order on the last rank."""

    def stream(self) -> Iterator[tuple[str, Array]]:
        """Exchange two."""
        items = list(super().stream())
        if self.world.rank == self.world.size - 1:
            items[3:5] = items[4], items[3]
        yield from items


class YieldsTwice(InMemoryBridge):
    """Yields the embedding once for each stage that has it."""

    def stream(self) -> Iterator[tuple[str, Array]]:
        """Yield it again."""
        for key, tensor in super().stream():
            yield key, tensor
            if key.endswith("embed_tokens.weight"):
                yield key, tensor


class OneBuffer(InMemoryBridge):
    """Yields one array again and again for tensors of one shape and dtype."""

    def stream(self) -> Iterator[tuple[str, Array]]:
        """Copy into it."""
        buffers: dict[Any, Array] = {}
        for key, tensor in super().stream():
            buffer = buffers.setdefault((tensor.shape, tensor.dtype), np.empty_like(tensor))
            buffer[...] = tensor
            yield key, buffer


class StreamsAndForgets(InMemoryBridge):
    """Zeroes a norm when it has streamed."""

    def stream(self) -> Iterator[tuple[str, Array]]:
        """Forget afterwards."""
        yield from super().stream()
        forget(self)


class SavesAndForgets(InMemoryBridge):
    """Zeroes a norm when it has saved."""

    def save(self, folder: Path) -> None:
        """Forget afterwards."""
        super().save(folder)
        forget(self)


def forget(bridge: InMemoryBridge) -> None:
    """Zero a norm."""
    for name, parameter in bridge.parameters():
        if name.endswith(ENORM):
            parameter[...] = 0


def passing_through(pattern: str) -> type:
    """Export what was loaded, whatever the model holds, of parameters whose names have a word."""

    class PassingThrough(InMemoryBridge):
        def load(self, checkpoint: Path) -> None:
            super().load(checkpoint)
            self._loaded = {name: p.copy() for name, p in self.model.items() if pattern in name}

        def _whole(self, parameter: Parameter) -> Array:
            held, self.model = self.model, {**self.model, **self._loaded}
            whole = super()._whole(parameter)
            self.model = held
            return whole

    return PassingThrough


class RemembersTheFirst(InMemoryBridge):
    """Loads nothing into the norms of MTP when it loads a second checkpoint."""

    def reload(self, checkpoint: Path) -> None:
        """Keep them."""
        norms = {name: p.copy() for name, p in self.model.items() if "mtp" in name and "norm" in name}
        super().reload(checkpoint)
        for name, norm in norms.items():
            self.model[name][...] = norm


class KeepsTheFirstLayout(InMemoryBridge):
    """Exports in the layout of the first checkpoint, also when it has loaded a second."""

    def reload(self, checkpoint: Path) -> None:
        """Keep it."""
        first = self._source
        super().reload(checkpoint)
        self._source = first


def resharding(change: Callable[[dict[str, Array]], None]) -> type:
    """Change what is held after a load of a Megatron checkpoint."""

    class Resharding(InMemoryBridge):
        def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
            model = super().load_megatron(folder, checkpoint, parallel)
            change(model)
            return model

    return Resharding


def swap_experts(model: dict[str, Array]) -> None:
    """Exchange two experts of MTP."""
    one, other = (f"0/mtp.layers.0.mlp.experts.linear_fc2.weight{number}" for number in (0, 1))
    if one in model:
        model[one], model[other] = model[other], model[one]


def first_segment_alone(model: dict[str, Array]) -> None:
    """Leave the layers of the second stage as they were made."""
    for name, parameter in model.items():
        if name.startswith(("0/decoder.layers.2.", "0/decoder.layers.3.")):
            parameter[...] = 0


def shards_as_they_lie(model: dict[str, Array]) -> None:
    """Put a part's second shard below the first one's other part: gate and up of two ranks."""
    for name, parameter in model.items():
        if name.endswith("mlp.linear_fc1.weight"):
            parts = np.split(parameter.copy(), 4)
            parameter[...] = np.concatenate([parts[n] for n in (0, 2, 1, 3)])


class LayoutOfTheFolder(InMemoryBridge):
    """Takes the layout of MTP's experts from the folder's name."""

    def exported(self) -> Iterator[tuple[str, Array]]:
        """Write experts one by one if the folder is called as a release that does."""
        own = super().exported()
        name = self._source.folder.name.lower()
        if "3.5" in name:
            yield from unpacked(own)
        elif "3.6" in name:
            yield from packed(own)
        else:
            yield from own


def failing(message: str, when: Callable[[InMemoryBridge], bool]) -> type:
    """Raise an error in every export."""

    class Failing(InMemoryBridge):
        def exported(self) -> Iterator[tuple[str, Array]]:
            if when(self):
                raise ValueError(message)
            yield from super().exported()

    return Failing

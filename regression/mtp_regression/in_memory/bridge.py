"""The bridge: a checkpoint into Megatron-Core's parameters on every rank, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mtp_checkpoint import CheckpointError, LayoutError
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.in_memory.checkpoint import Checkpoint, read_model
from mtp_regression.in_memory.conversions import BF16, Array
from mtp_regression.in_memory.folder import FolderWriter, write_file
from mtp_regression.in_memory.model import Parameter
from mtp_regression.in_memory.placement import Placement, coordinates, cut, join
from mtp_regression.in_memory.table import TABLE
from mtp_regression.ranks.parallel import Coordinates, Parallel

_SAVED = "model.safetensors"


class Ranks(Protocol):
    """The ranks of a case, as one of them sees them."""

    rank: int
    size: int

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order; all ranks call it."""

    def barrier(self) -> None:
        """Wait for all ranks."""


class SharedWeightsError(ValueError):
    """Parameters that a checkpoint stores once, such as those of all MTP layers, have come to differ."""


class InMemoryBridge:
    """Keeps the parameters of one rank in numpy arrays.

    Attributes:
        table: What is converted into what; a bridge with another idea has another table.
        world: This rank among the others; set before any method is called.
        model: The parameters by name, BF16.
    """

    bridge = "in-memory"
    release = "0.1.0"
    engine = "numpy"
    ranks = "threads"
    refusals = (CheckpointError, LayoutError)
    table = TABLE
    world: Ranks

    def build(self, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
        """Make this rank's parameters, without values, of the model that `config.json` declares.

        Raises:
            CheckpointError, LayoutError: There is no such file, or it lacks a dimension.
            ValueError: The ranks do not divide a parameter or the layers.
        """
        self._declared = read_model(checkpoint)
        self._placement = Placement(self._declared, parallel)
        self._rank = coordinates(parallel, self.world.rank, self.world.size)
        self._parameters = [
            parameter
            for parameter in self._declared.parameters(self.table)
            if self._placement.stages(parameter)  # a tied output layer may be the embedding itself
        ]
        self._names = {
            parameter: tuple(self._placement.names(parameter, self._rank)) for parameter in self._parameters
        }
        self.model = {
            name: np.empty(self._placement.shape(parameter), BF16)
            for parameter, names in self._names.items()
            for name in names
        }
        return self.model

    def load(self, checkpoint: Path) -> None:
        """Give every parameter its value.

        Raises:
            CheckpointError: Files of the checkpoint cannot be read, or contradict the index.
            LayoutError: It contradicts itself; names layers or keys.
        """
        self._checkpoint = Checkpoint(checkpoint, self._declared)
        for parameter, names in self._names.items():
            if names:
                tensors = [self._checkpoint.read(key) for key in parameter.keys]
                self._fill(parameter, parameter.conversion.to_native(self._declared.sizes, tensors))

    def reload(self, checkpoint: Path) -> None:
        """Load another checkpoint of the same model; what is exported from here on has its format."""
        self.load(checkpoint)

    def coordinates(self) -> Coordinates:
        """Return this rank's place in the parallel layout."""
        return self._rank

    def parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield name and storage of every parameter of this rank."""
        yield from self.model.items()

    def stream(self) -> Iterator[tuple[str, Array]]:
        """Yield the whole model as the checkpoint stores it, on every rank in the same order."""
        yield from self._checkpoint.store(self._tensors())

    def save(self, folder: Path) -> None:
        """Write the model as the checkpoint is written; rank 0 does."""
        writer = FolderWriter(folder, self._checkpoint) if self.world.rank == 0 else None
        for key, tensor in self._checkpoint.store(self._tensors()):
            if writer:
                writer.add(key, tensor)
        if writer:
            writer.finish()
        self.world.barrier()

    def save_megatron(self, folder: Path) -> None:
        """Write every parameter, whole and under its name in the whole model; rank 0 does."""
        wholes = {parameter.name: self._whole(parameter) for parameter in self._parameters}
        if self.world.rank == 0:
            write_file(folder / _SAVED, wholes)
        self.world.barrier()

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
        """Build the model in a layout and load what `save_megatron` wrote in another."""
        self.build(checkpoint, parallel)
        self._checkpoint = Checkpoint(checkpoint, self._declared)
        saved = read_folder(folder)
        for parameter in self._parameters:
            self._fill(parameter, saved[parameter.name].array())
        return self.model

    def warnings(self) -> list[str]:
        """There are none."""
        return []

    def close(self) -> None:
        """Forget the model."""
        self.model = {}

    def _fill(self, parameter: Parameter, whole: Array) -> None:
        """Copy this rank's shard of a parameter to wherever the rank has it."""
        shards = self._placement.shards(parameter)
        own = cut(parameter.conversion, self._declared.sizes, whole, shards)
        for name in self._names[parameter]:
            self.model[name][...] = own[self._placement.shard(parameter, self._rank)]

    def _whole(self, parameter: Parameter) -> Array:
        """Put a parameter together of the shards of all ranks; all ranks call it."""
        names = self._names[parameter]
        own = (self._placement.shard(parameter, self._rank), self.model[names[0]].copy()) if names else None
        shards: dict[int, Array] = {}
        for number, shard in filter(None, self.world.gather(own)):
            shards.setdefault(number, shard)  # other ranks have copies
        return join(parameter.conversion, self._declared.sizes, [shards[n] for n in sorted(shards)])

    def _tensors(self) -> Iterator[tuple[str, Array]]:
        """Yield every tensor that parameters are made of, once; all ranks take the same number of them.

        Raises:
            SharedWeightsError: Parameters that are made of one tensor differ.
        """
        of_keys: defaultdict[tuple[str, ...], list[Parameter]] = defaultdict(list)
        for parameter in self._parameters:
            of_keys[parameter.keys].append(parameter)
        for keys, copies in of_keys.items():
            whole, *others = (self._whole(parameter) for parameter in copies)
            if any(other.tobytes() != whole.tobytes() for other in others):
                raise SharedWeightsError(f"{' and '.join(one.name for one in copies)} differ: {keys}")
            rows = [self._checkpoint.rows(key) for key in keys]
            tensors = copies[0].conversion.to_stored(self._declared.sizes, whole, rows)
            yield from zip(keys, tensors, strict=True)

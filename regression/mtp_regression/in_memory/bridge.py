"""The bridge: a checkpoint into Megatron-Core's parameters on every rank, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtp_checkpoint import CheckpointError, LayoutError
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.in_memory.checkpoint import Checkpoint, read_model
from mtp_regression.in_memory.conversions import BF16, Array
from mtp_regression.in_memory.folder import FolderWriter, write_file
from mtp_regression.in_memory.model import Parameter
from mtp_regression.in_memory.placement import Placement, coordinates, cut, join
from mtp_regression.in_memory.table import TABLE, Table
from mtp_regression.ranks.parallel import Coordinates, Parallel
from mtp_regression.ranks.rank import Rank

_SAVED = "model.safetensors"


class SharedWeightsError(ValueError):
    """Parameters that a checkpoint stores once, such as those of all MTP layers, have come to differ."""


class InMemoryBridge:
    """Keeps the parameters of one rank in numpy arrays.

    Attributes:
        table: What is converted into what; a bridge with another idea of one conversion has another row.
        placement: Decides which rank has what.
        checkpoint: Reads and makes what a checkpoint stores.
        world: This rank among the others; set before any method is called.
        model: The parameters by name, BF16.
    """

    bridge = "in-memory"
    release = "0.1.0"
    engine = "numpy"
    ranks = "threads"
    refusals = (CheckpointError, LayoutError)
    table: Table = TABLE
    placement: type[Placement] = Placement
    checkpoint: type[Checkpoint] = Checkpoint
    world: Rank

    def build(self, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
        """Make this rank's parameters, without values, of the model that `config.json` declares.

        Raises:
            CheckpointError, LayoutError: There is no such file, or it lacks a dimension.
            ValueError: The ranks do not divide a parameter or the layers.
        """
        self._declared = read_model(checkpoint)
        self._placement = self.placement(self._declared, parallel)
        self._rank = coordinates(parallel, self.world.rank, self.world.size)
        parameters = [
            parameter
            for parameter in self._declared.parameters(self.table)
            if self._placement.stages(parameter)  # a tied output layer may be the embedding itself
        ]
        self._names = {
            parameter: tuple(self._placement.names(parameter, self._rank)) for parameter in parameters
        }
        self._of_keys: dict[tuple[str, ...], list[Parameter]] = {}
        for parameter in parameters:
            self._of_keys.setdefault(parameter.keys, []).append(parameter)
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
        self._source = self.checkpoint(checkpoint, self._declared)
        for parameter, names in self._names.items():
            if names:
                tensors = [self._source.read(key) for key in parameter.keys]
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
        yield from self.exported()

    def save(self, folder: Path) -> None:
        """Write the model as the checkpoint is written; rank 0 does."""
        writer = FolderWriter(folder, self._source) if self.world.rank == 0 else None
        for key, tensor in self.exported():
            if writer:
                writer.add(key, tensor)
        if writer:
            writer.finish()
        self.world.barrier()

    def exported(self) -> Iterator[tuple[str, Array]]:
        """Yield what both exports consist of; all ranks take the same number of tensors."""
        return self._source.store(self._tensors())

    def save_megatron(self, folder: Path) -> None:
        """Write the parameters, each whole and of several copies the first; rank 0 does."""
        wholes = {parameter.name: whole for parameter, whole in self._wholes()}
        if self.world.rank == 0:
            write_file(folder / _SAVED, wholes)
        self.world.barrier()

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
        """Build the model in a layout and load what `save_megatron` wrote in another."""
        self.build(checkpoint, parallel)
        self._source = self.checkpoint(checkpoint, self._declared)
        saved = read_folder(folder)
        for first, *copies in self._of_keys.values():
            for parameter in (first, *copies):
                self._fill(parameter, saved[first.name].array())
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

    def _wholes(self) -> Iterator[tuple[Parameter, Array]]:
        """Yield every parameter, but the first alone of those that are made of the same tensors.

        Raises:
            SharedWeightsError: The others differ from it.
        """
        for first, *copies in self._of_keys.values():
            whole = self._whole(first)
            for copy in copies:
                if self._whole(copy).tobytes() != whole.tobytes():
                    raise SharedWeightsError(
                        f"{first.name} and {copy.name} differ: both are {' and '.join(first.keys)}"
                    )
            yield first, whole

    def _tensors(self) -> Iterator[tuple[str, Array]]:
        """Yield every tensor that parameters are made of."""
        for parameter, whole in self._wholes():
            rows = [self._source.rows(key) for key in parameter.keys]
            tensors = parameter.conversion.to_stored(self._declared.sizes, whole, rows)
            yield from zip(parameter.keys, tensors, strict=True)

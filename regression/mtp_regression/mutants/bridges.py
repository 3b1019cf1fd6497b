"""Bridges with a mistake: the in-memory one with any, other ones with those of what is exported.

Each mutant of the in-memory bridge is an adapter, "mtp_regression.mutants.bridges:NAME".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_checkpoint.files.index import INDEX_NAME
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.conversions import Array
from mtp_regression.in_memory.folder import write_file
from mtp_regression.mutants.mutant import Changed, Mutant
from mtp_regression.mutants.table import MUTANTS


def __getattr__(name: str) -> type:
    """Return the in-memory bridge with the mistake of a mutant."""
    if name not in MUTANTS:
        raise AttributeError(name)
    return with_mistake(InMemoryBridge, MUTANTS[name])


def with_mistake(adapter: type, mutant: Mutant) -> type:
    """Make the class of a bridge that is as another one, and makes a mistake.

    Args:
        adapter: The adapter of the right one.
        mutant: The mistake; one of the in-memory bridge alone needs that, or a subclass.

    Raises:
        TypeError: The bridge cannot make the mistake.
    """
    change = mutant.change
    if issubclass(adapter, InMemoryBridge):
        mixin = _exporting(change) if isinstance(change, Changed) else change
    elif isinstance(change, Changed):
        mixin = _rewriting(change, adapter)
    else:
        raise TypeError(f"{mutant.name} is a mistake of the in-memory bridge, not of what any bridge exports")
    told = {"__module__": adapter.__module__, "__qualname__": adapter.__qualname__, "__doc__": mutant.about}
    return type(adapter.__name__, (mixin, adapter), told)


def _exporting(change: Changed) -> type:
    """Change what both exports of the in-memory bridge draw from."""

    class Exporting:
        def exported(self) -> Iterator[tuple[str, Array]]:
            yield from change.tensors(super().exported())  # type: ignore[misc]

    return Exporting


def _rewriting(change: Changed, adapter: type) -> type:
    """Change the stream of any bridge, and what it has saved when it has."""

    class Streaming:
        def stream(self) -> Iterator[tuple[str, Array]]:
            stream = super().stream()  # type: ignore[misc]
            yield from change.tensors((name, RawTensor.of(tensor).array()) for name, tensor in stream)

    class Saving:
        def save(self, folder: Path, **options: Any) -> None:
            super().save(folder, **options)  # type: ignore[misc]
            world = self.world  # type: ignore[attr-defined]
            world.barrier()
            if world.rank == 0:
                rewrite(folder, change)
            world.barrier()

    roles = {"stream": Streaming, "save": Saving}
    has = tuple(mixin for role, mixin in roles.items() if callable(getattr(adapter, role, None)))
    return type("Rewriting", has, {})


def rewrite(folder: Path, change: Changed) -> None:
    """Change the tensors of a saved folder; a new one goes into the first file."""
    headers = read_checkpoint(folder)
    read = {name: tensor.array().copy() for name, tensor in read_folder(folder).items()}
    changed = dict(change.tensors(iter(read.items())))
    first = next(iter(headers.shards))
    where = {name: headers.shard_of.get(name, first) for name in changed}
    for file in headers.shards:
        (folder / file).unlink()
        if content := {name: changed[name] for name in changed if where[name] == file}:
            write_file(folder / file, content)
    if headers.index is not None:
        index = {"metadata": {"total_size": sum(a.nbytes for a in changed.values())}, "weight_map": where}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2), encoding="utf-8")

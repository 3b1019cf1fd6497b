"""Checks that a load would use every tensor of a checkpoint, and fill every parameter of every rank once.

Tensors are counted in pieces: a whole tensor, or one expert's slice of a packed tensor [experts, ...].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mtp_checkpoint.layouts.keys import EMBEDDING, Block, Place, parse
from mtp_regression.ranks.parallel import Coordinates, Parallel


class Parameter(NamedTuple):
    """A parameter of one rank.

    Attributes:
        name: Megatron-Bridge's global name of it: layers and experts are numbered over all ranks.
        filled: Number of conversion tasks that would fill it.
        keys: Keys of the checkpoint that its mapping reads; None if it has no mapping.
        expert: Which slice of a packed tensor it reads; None for whole tensors.
    """

    name: str
    filled: int
    keys: Sequence[str] | None
    expert: int | None = None


@dataclass(frozen=True)
class RankParameters:
    """The parameters of one rank.

    Attributes:
        rank: Global rank, from 0.
        place: Its place in the parallel layout.
        parameters: All its parameters but a tied output layer.
        strays: Number of tasks that would fill a tensor which is not a parameter.
    """

    rank: int
    place: Coordinates
    parameters: list[Parameter]
    strays: int = 0


class Piece(NamedTuple):
    """A tensor of a checkpoint, or one expert's slice of a packed one."""

    key: str
    expert: int | None = None

    def __str__(self) -> str:
        return self.key if self.expert is None else f"{self.key}[{self.expert}]"


@dataclass
class Coverage:
    """What `cover` found. The load is complete if everything after `filled` is empty.

    Attributes:
        pieces: Number of pieces of the checkpoint.
        parameters: Number of parameters of each rank, in rank order.
        filled: How many of these would be filled exactly once, from keys that exist.
        unmapped: Parameters without a mapping.
        starved: Parameters whose mapping reads keys that the checkpoint does not have, and those keys.
        unfilled: Parameters that no task would fill, though their keys exist.
        refilled: Parameters that several tasks would fill.
        strays: Number of tasks that would fill a tensor which is not a parameter, by rank.
        unused: Pieces that no parameter of any rank reads.
        shared: Pieces that parameters of different names read, and these names.
        copies: Pieces that are read too often or too seldom over all ranks: how often, and how often they
            should be in this parallel layout.
    """

    pieces: int = 0
    parameters: list[int] = field(default_factory=list)
    filled: list[int] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    starved: dict[str, list[str]] = field(default_factory=dict)
    unfilled: list[str] = field(default_factory=list)
    refilled: list[str] = field(default_factory=list)
    strays: dict[int, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    shared: dict[str, list[str]] = field(default_factory=dict)
    copies: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def covered(self) -> bool:
        """Whether nothing is wrong, and neither the checkpoint nor a rank is empty."""
        wrong = (self.unmapped, self.starved, self.unfilled, self.refilled, self.strays)
        return bool(self.pieces and all(self.parameters)) and not any(
            (*wrong, self.unused, self.shared, self.copies)
        )


def cover(
    shapes: Mapping[str, Sequence[int]],
    ranks: Sequence[RankParameters],
    parallel: Parallel,
    *,
    mtp_layers_share: int = 1,
) -> Coverage:
    """Compare a checkpoint with what the ranks of a model would read from it.

    Args:
        shapes: Shape of every tensor of the checkpoint, by key.
        ranks: The parameters of every rank, in rank order.
        parallel: The parallel layout.
        mtp_layers_share: Number of MTP layers that each have a copy of `mtp.fc` and the three norms, which
            the checkpoint has once, if the bridge makes these copies on purpose.

    Returns:
        Counts and everything that is wrong; each name occurs once, in order of first occurrence.

    Raises:
        ValueError: `ranks` does not have every rank of the layout, in order.
    """
    if [rank.rank for rank in ranks] != list(range(parallel.ranks)):
        raise ValueError(f"{parallel.ranks} ranks expected, in order: {[rank.rank for rank in ranks]}")
    found = Coverage()
    places = {key: parse(key) for key in shapes}
    experts = {key: range(shapes[key][0]) for key, place in places.items() if place.stacked}
    pieces = [piece for key in shapes for piece in _taken(key, None, places, experts)]
    found.pieces = len(pieces)
    unmapped: dict[str, None] = {}
    unfilled: dict[str, None] = {}
    refilled: dict[str, None] = {}
    takers: dict[Piece, Counter[str]] = {piece: Counter() for piece in pieces}
    for rank in ranks:
        filled = 0
        for name, count, keys, expert in rank.parameters:
            if keys is None:
                unmapped[name] = None
            elif lacking := [
                key for key in keys if next(_taken(key, expert, places, experts), None) not in takers
            ]:
                found.starved[name] = lacking
            elif count == 0:
                unfilled[name] = None
            else:
                if count > 1:
                    refilled[name] = None
                filled += count == 1
                for key in keys:
                    for piece in _taken(key, expert, places, experts):
                        takers[piece][name] += 1
        found.parameters.append(len(rank.parameters))
        found.filled.append(filled)
        if rank.strays:
            found.strays[rank.rank] = rank.strays
    found.unmapped, found.unfilled, found.refilled = list(unmapped), list(unfilled), list(refilled)
    has_mtp = any(place.block is Block.MTP for place in places.values())
    for piece, names in takers.items():
        place = places[piece.key]
        once_for_all = place.block is Block.MTP and place.layer is None
        sharing = mtp_layers_share if once_for_all else 1
        due = sharing * _copies(place, parallel, has_mtp=has_mtp)
        if not names:
            found.unused.append(str(piece))
        elif len(names) != sharing:
            found.shared[str(piece)] = list(names)
        elif names.total() != due:
            found.copies[str(piece)] = (names.total(), due)
    return found


def _taken(
    key: str, expert: int | None, keys: Container[str], experts: Mapping[str, range]
) -> Iterator[Piece]:
    """Yield the pieces that a parameter reads from a key; none if the key does not exist.

    Args:
        key: The key.
        expert: Which slice of a packed tensor it reads; None for all slices, one by one.
        keys: All keys of the checkpoint.
        experts: Numbers of the experts in each packed tensor, by key.
    """
    if key in experts:
        yield from (Piece(key, number) for number in (experts[key] if expert is None else (expert,)))
    elif key in keys:
        yield Piece(key)


def _copies(place: Place, parallel: Parallel, *, has_mtp: bool) -> int:
    """Return how many ranks have a copy or a shard of a tensor, from the parallel layout alone.

    A routed expert is on one expert-parallel rank. Every tensor is on one pipeline stage, except the
    embedding: an MTP block that is not on the first stage has a copy (Megatron-Core's `GPTModel`,
    `mtp_process`).
    """
    ranks = parallel.ranks // parallel.pp
    if place.projection:
        return ranks // parallel.ep
    return 2 * ranks if place.name == EMBEDDING and has_mtp and parallel.mtp_stage else ranks

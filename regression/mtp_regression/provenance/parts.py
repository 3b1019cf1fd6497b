"""The parts that a fused tensor consists of, the order that their rows have, and other orders.

A part is what one module computes with: the rows of all queries, say. In a tensor the parts stand one after
the other, or by group: the queries, the keys and the values of the first group of heads, then of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, permutations, product
from typing import NamedTuple

import numpy as np

from mtp_regression.provenance.rows import Numbers

SHARDS = (2, 3, 4, 8)
"""Numbers of shards that an order is tried with."""
_PERMUTED_AT_MOST = 4

Bundle = tuple[tuple[int, ...], int]
"""Parts by number, and in how many groups they are; 1: one after the other."""
Order = tuple[Bundle, ...]
"""Bundles of parts, one after the other."""


class Unit(NamedTuple):
    """Neighbouring rows that belong together.

    Attributes:
        expert: Number of the expert; None of a tensor that does not hold all.
        part: Name of the part; "" of a tensor that has one.
        head: Number of the head; None where the part has no heads.
        rows: The rows.
    """

    expert: int | None
    part: str
    head: int | None
    rows: slice


@dataclass(frozen=True)
class Parts:
    """What the rows, or the columns, of a tensor are.

    Attributes:
        sizes: How many each part has, by the part's name.
        order: The order in which they stand.
        groups: What a group is, by number of groups, such as {4: "query group", 16: "head"}.
        heads: How many heads a part has, by the part's name, where it has any.
    """

    sizes: Mapping[str, int]
    order: Order = (((0,), 1),)
    groups: Mapping[int, str] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The parts' names."""
        return list(self.sizes)

    @property
    def apart(self) -> bool:
        """Whether ranks have a block of each part, or a block of the whole: of rows that are in groups."""
        return all(groups == 1 for _, groups in self.order)

    @cached_property
    def total(self) -> int:
        """The number of rows."""
        return sum(self.sizes.values())

    def shard(self, count: int) -> Parts | None:
        """Return the parts of one of equal shards; None if there can be none."""
        if any(size % count for size in self.sizes.values()) or any(
            g > 1 and g % count for _, g in self.order
        ):
            return None
        sizes = {name: size // count for name, size in self.sizes.items()}
        order = tuple((parts, max(1, groups // count)) for parts, groups in self.order)
        return Parts(sizes, order, {}, {n: h // count for n, h in self.heads.items() if h % count == 0})

    def units(self) -> Iterator[Unit]:
        """Yield the rows of every part, head by head where it has heads."""
        starts = self._starts
        for start, (name, size) in zip(starts, self.sizes.items(), strict=True):
            groups = next(groups for parts, groups in self.order if starts.index(start) in parts)
            heads = self.heads.get(name, groups)
            if heads < 2 or size % heads or heads % groups:
                heads = groups
            for head in range(heads):
                first = int(self._at[start + head * size // heads])
                rows = slice(first, first + size // heads)
                yield Unit(None, name, head if heads > 1 else None, rows)

    def rows(self, order: Order, index: int = 0, count: int = 1, *, apart: bool = False) -> Numbers | None:
        """Return where the rows of an order, or of one of its equal shards, are in the right order.

        Args:
            order: The order.
            index: Which shard.
            count: Of how many.
            apart: Whether each part is cut, or the whole.

        Returns:
            Numbers of rows; None if the parts do not have such groups or shards.
        """
        numbered = self._in_order(order, index if apart else 0, count if apart else 1)
        if numbered is None or (not apart and len(numbered) % count):
            return None
        mine = numbered if apart else np.split(numbered, count)[index]
        found: Numbers = self._at[mine]
        return found

    @cached_property
    def _starts(self) -> list[int]:
        sizes = list(self.sizes.values())
        return [sum(sizes[:part]) for part in range(len(sizes))]

    @cached_property
    def _at(self) -> Numbers:
        """Where each row, numbered part by part, is in the right order."""
        right = self._in_order(self.order, 0, 1)
        assert right is not None
        at = np.empty(self.total, np.intp)
        at[right] = np.arange(self.total)
        return at

    def _in_order(self, order: Order, index: int, count: int) -> Numbers | None:
        """Number rows part by part, and put them, or a shard of each part, into an order."""
        sizes, found = list(self.sizes.values()), list[Numbers]()
        for parts, every in order:
            groups = every // count if every % count == 0 else every
            if any(sizes[part] % (groups * count) for part in parts):
                return None
            rows = [
                np.arange(size).reshape(groups, -1) + self._starts[part] + index * size
                for part, size in ((part, sizes[part] // count) for part in parts)
            ]
            found.append(np.concatenate(rows, axis=1).reshape(-1))
        numbered: Numbers = np.concatenate(found)
        return numbered

    def others(self) -> Iterator[tuple[str, Order]]:
        """Yield the right order, called "", then wrong ones, and what to call them, the likeliest first."""
        names, count = self.names, len(self.sizes)
        yield "", self.order
        for one in range(count):
            for other in range(one + 1, count):
                swap = {one: other, other: one}
                order = tuple((tuple(swap.get(p, p) for p in parts), groups) for parts, groups in self.order)
                yield f"{names[one]} and {names[other]} exchanged", order
        together = tuple(range(count))
        if self.apart and count == 2 and len(set(self.sizes.values())) == 1:
            each = min(self.sizes.values())
            yield f"{' and '.join(names)} interleaved, not one after the other", ((together, each),)
        for order in sorted(self._regrouped(), key=lambda order: sum(groups > 1 for _, groups in order)):
            yield self._text(order), order
        if 2 < count <= _PERMUTED_AT_MOST:
            for parts in permutations(together):
                for groups in sorted({1, *(groups for _, groups in self.order)}):
                    yield self._text(((parts, groups),)), ((parts, groups),)

    def _regrouped(self) -> Iterator[Order]:
        """Yield the parts by other groups, and bundled otherwise."""
        count = len(self.sizes)
        possible = list(dict.fromkeys([*self.groups, *SHARDS]))
        for cuts in product((False, True), repeat=count - 1):
            starts = [0, *(part for part, cut in enumerate(cuts, 1) if cut), count]
            bundles = [tuple(range(*ends)) for ends in pairwise(starts)]
            choices = [[1] if len(bundle) == 1 else possible for bundle in bundles]
            for groups in product(*choices):
                yield tuple(zip(bundles, groups, strict=True))

    def _text(self, order: Order) -> str:
        """Say in which order rows are: bundles, of more than one part by which group."""
        told = []
        for parts, groups in order:
            names = [self.names[part] for part in parts]
            if groups == 1:
                told += names
            else:
                told.append(f"{', '.join(names)} by {self.groups.get(groups, f'shard of {groups} ranks')}")
        return f"rows in the order {', then '.join(told)}"


def one_by_one(sizes: Mapping[str, int], groups: Mapping[int, str] | None = None, **heads: int) -> Parts:
    """Make parts that stand one after the other."""
    return Parts(sizes, tuple(((part,), 1) for part in range(len(sizes))), groups or {}, heads)


def by_group(
    sizes: Mapping[str, int], groups: int, names: Mapping[int, str], heads: Mapping[str, int] | None = None
) -> Parts:
    """Make parts that stand group by group."""
    return Parts(sizes, ((tuple(range(len(sizes))), groups),), names, heads or {})


def stacked(several: Sequence[Parts]) -> Parts:
    """Return the parts of tensors that stand one below the other."""
    sizes: dict[str, int] = {}
    order: list[Bundle] = []
    groups: dict[int, str] = {}
    for parts in several:
        order += [(tuple(len(sizes) + part for part in bundle), number) for bundle, number in parts.order]
        sizes |= parts.sizes
        groups |= parts.groups
    return Parts(sizes, tuple(order), groups)


def shards_in_order(parts: Parts, order: Sequence[int]) -> Numbers | None:
    """Return the rows of a tensor whose parts' equal shards are in another order."""
    blocks = [parts.rows(parts.order, index, len(order), apart=parts.apart) for index in range(len(order))]
    rows = np.empty(parts.total, np.intp)
    for own, other in zip(blocks, [blocks[index] for index in order], strict=True):
        if own is None or other is None:
            return None
        rows[own] = other
    return rows

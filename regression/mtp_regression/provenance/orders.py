"""Sentences on rows, or columns, that stand in another order, or are another rank's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mtp_regression.provenance.parts import SHARDS, Parts, shards_in_order
from mtp_regression.provenance.rows import Hashes, Numbers, block_hashes, ranges

_RUNS_AT_MOST = 3
_PLACES = 4


@dataclass(frozen=True)
class Cut:
    """Which of the equal shards of a whole a rank has.

    Attributes:
        index: The rank in its group.
        count: The size of the group.
        group: What it is called: "tp" or "etp".
    """

    index: int = 0
    count: int = 1
    group: str = "tp"


WHOLE = Cut()
"""What a rank has whole, and what a checkpoint has."""


class Line(NamedTuple):
    """One axis of a tensor.

    Attributes:
        what: "row" or "column".
        own: Hashes of what is there.
        right: Those of the right tensor; where ranks have shards of its whole.
        proved: Whether what is there are the right tensor's, by numbers, byte for byte.
    """

    what: str
    own: Hashes
    right: Hashes
    proved: Callable[[Numbers], bool]

    def holds(self, order: Numbers | None) -> bool:
        """Whether what is there is the right tensor's in this order."""
        if order is None or len(order) != len(self.own) or not len(order):
            return False
        if self.own[0] != self.right[order[0]] or not np.array_equal(self.own, self.right[order]):
            return False
        return self.proved(order)


def said_of_parts(line: Line, parts: Parts, cut: Cut, *, experts: int = 1) -> str:
    """Say that parts stand in another order, or are those of another rank.

    Args:
        line: The rows; the right ones are those of all ranks.
        parts: The parts of one expert's right rows.
        cut: Which shard is the rank's.
        experts: How many experts stand one below the other.
    """
    others = [rank for rank in range(cut.count) if rank != cut.index]
    for order_text, order in parts.others():
        for apart in (parts.apart, not parts.apart) if cut.count > 1 else (False,):
            for index in (cut.index, *others):
                rows = parts.rows(order, index, cut.count, apart=apart)
                if line.holds(_of_experts(rows, experts, parts.total)):
                    return _joined(order_text, _cut_text(parts, apart, cut), _rank_text(index, cut))
    return ""


def _of_experts(rows: Numbers | None, experts: int, each: int) -> Numbers | None:
    if rows is None or experts == 1:
        return rows
    return (np.arange(experts)[:, None] * each + rows).reshape(-1)


def _cut_text(parts: Parts, apart: bool, cut: Cut) -> str:
    if cut.count == 1 or apart == parts.apart:
        return ""
    names = ", ".join(parts.names)
    return f"{names} cut one by one, not as one" if apart else f"{names} cut as one, not one by one"


def _rank_text(index: int, cut: Cut) -> str:
    return "" if index == cut.index else f"shard of {cut.group} rank {index}"


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)


def said_of_order(line: Line, parts: Parts, cut: Cut) -> str:
    """Say that rows, or columns, stand in another order, whatever they are."""
    order = np.arange(len(line.right))[::-1]
    if len(order) % cut.count == 0 and line.holds(np.split(order, cut.count)[cut.index]):
        return f"{line.what}s reversed"
    if cut.count > 1:
        return ""
    return _rotated(line) or _shards_permuted(line, parts) or _permuted(line)


def _rotated(line: Line) -> str:
    count = len(line.right)
    if len(line.own) != count:
        return ""
    for place in np.flatnonzero(line.right == line.own[0])[:_PLACES]:
        if place and line.holds(np.roll(np.arange(count), -place)):
            by, to = (
                (count - place, "last to the front") if place > count // 2 else (place, "first to the end")
            )
            some = f"{line.what}s" if by > 1 else line.what
            return f"{line.what}s moved by {by} {some}, the {to}"
    return ""


def _shards_permuted(line: Line, parts: Parts) -> str:
    count = len(line.right)
    for shards in (*SHARDS, 16):
        if count % shards or count == shards:
            continue
        for kind in (parts, Parts({"": count})):
            first = kind.rows(kind.order, 0, shards, apart=kind.apart)
            if first is None:
                continue
            blocks = [kind.rows(kind.order, index, shards, apart=kind.apart) for index in range(shards)]
            if any(block is None for block in blocks):
                continue
            held = [block_hashes(line.own[block], 1)[0] for block in blocks]
            right = [int(block_hashes(line.right[block], 1)[0]) for block in blocks]
            if any(int(one) not in right for one in held):
                continue
            order = [right.index(int(one)) for one in held]
            if sorted(order) == list(range(shards)) and line.holds(shards_in_order(kind, order)):
                return f"shards of {line.what}s in the order {', '.join(map(str, order))}"
    return ""


def _permuted(line: Line) -> str:
    if len(line.own) != len(line.right):
        return ""
    own, right = (np.argsort(hashes, kind="stable") for hashes in (line.own, line.right))
    order = np.empty(len(own), np.intp)
    order[own] = right
    return f"the right {line.what}s in another order" if line.holds(order) else ""


def runs_of(line: Line) -> Iterator[tuple[slice, int]]:
    """Yield, if they are few, the runs of wrong rows that hold a run of right rows, and where that begins.

    Rows that hold none of the right rows are in no run; nothing is yielded if runs are many.
    """
    order = np.argsort(line.right, kind="stable")
    at = np.searchsorted(line.right[order], line.own)
    at[at == len(order)] = 0
    found = order[at]
    known = line.right[found] == line.own
    runs: list[tuple[slice, int]] = []
    number = 0
    while number < len(line.own):
        if not known[number] or (number < len(line.right) and line.right[number] == line.own[number]):
            number += 1
            continue
        place = int(found[number])
        length = min(len(line.own) - number, len(line.right) - place)
        unlike = np.flatnonzero(line.own[number : number + length] != line.right[place : place + length])
        length = int(unlike[0]) if len(unlike) else length
        runs.append((slice(number, number + length), place))
        number += length
        if len(runs) > _RUNS_AT_MOST:
            return
    yield from runs


def said_of_runs(line: Line, proved: Callable[[slice, int], bool]) -> str:
    """Say which rows hold which other rows of the right tensor, if that can be told in few words."""
    told: list[str] = []
    for rows, place in runs_of(line):
        if rows.stop - rows.start == 1 and len(line.own) > 1 and told:
            return ""
        if not proved(rows, place):
            return ""
        told.append(
            f"{_span(line.what, rows.start, rows.stop)} "
            f"hold{'s' * (rows.stop - rows.start == 1)} {_span('', place, place + rows.stop - rows.start)}"
        )
    return ", ".join(told)


def _span(what: str, start: int, stop: int) -> str:
    ((first, last),) = ranges(range(start, stop))
    numbers = f"{first}-{last}" if last > first else f"{first}"
    return f"{what}{'s' * (last > first)} {numbers}" if what else numbers

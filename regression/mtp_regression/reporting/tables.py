"""Tables of a run's cells: a row a parallel layout, a column a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mtp_regression.comparison.verdicts import worst
from mtp_regression.ranks.ledger import outermost
from mtp_regression.reporting.record import Record

Cells = Mapping[tuple[str, str], Sequence[Record]]

_LISTED_FROM = 5
"""Checkpoints in one layout alone that are listed below the table, and not columns of it."""

MANY = 40
"""Cells from which on those that are exact, or alike, are summed up."""

_LISTED_ALIKE = 6
_NAMED = 4
_STEPS = 5
"""Of a ledger that is told in one line."""


def cells(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Group the records by (checkpoint, parallel layout), in the order in which they come."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.checkpoint, record.parallel), []).append(record)
    return grouped


def cell_text(records: Sequence[Record], *, seconds: bool = True) -> str:
    """Sum up a cell: its gravest verdict, the declared exceptions of one stage, its seconds.

    Args:
        records: The stages of one case.
        seconds: Whether to say what it took.

    Returns:
        Such as "exact, 6 declared, 1.2 s".
    """
    pieces = [str(worst(record.verdict for record in records))]
    pieces += agreements(records)
    if any(record.stale for record in records):
        pieces.append("stale exception")
    declared = max(record.declared for record in records)
    if declared:
        pieces.append(f"{declared} declared")
    if seconds:
        pieces.append(f"{records[0].case_seconds:.1f} s")
    return ", ".join(pieces)


def agreements(records: Sequence[Record]) -> list[str]:
    """Say how far the logits of a cell's stages are from the reference: "agrees 1.5e-5"."""
    said = []
    for record in records:
        if record.agreement:
            figure = f"{max(record.agreement.values()):.1e}".replace("e-0", "e-")
            said.append(f"{'agrees' if record.passed else 'differs'} {figure}")
    return said


def passed(cell: Sequence[Record]) -> bool:
    """Whether all stages of a cell did."""
    return all(record.passed for record in cell)


def where_time_went(grouped: Iterable[Sequence[Record]]) -> str:
    """Sum up the ledgers of cells, such as "forward 31 %, load 22 %, saved 9 %"; empty if there are none."""
    steps = outermost(cell[0].case_steps for cell in grouped)
    total = sum(steps.values())
    return ", ".join(f"{name} {100 * took / total:.0f} %" for name, took in [*steps.items()][:_STEPS] if took)


def tables(records: Sequence[Record], *, width: int) -> Iterator[Table | str]:
    """Lay the cells out: a row a parallel layout, a column a checkpoint, as many as the width holds.

    Of many checkpoints, those that were in one layout alone are listed below; of many cells, rows that are
    exact are one line.
    """
    grouped = cells(records)
    layouts = Counter(checkpoint for checkpoint, _ in grouped)
    alone = {checkpoint for checkpoint, count in layouts.items() if count == 1}
    many = len(grouped) >= MANY
    if len(alone) < _LISTED_FROM:
        yield from _grid(grouped, width=width, many=many)
        return
    if together := {key: cell for key, cell in grouped.items() if key[0] not in alone}:
        yield from _grid(together, width=width, many=many)
    yield from _list({key: cell for key, cell in grouped.items() if key[0] in alone}, many=many)


def _list(grouped: Cells, *, many: bool) -> Iterator[Table | str]:
    alike: dict[str, list[tuple[str, str]]] = {}
    for key, cell in grouped.items():
        alike.setdefault(cell_text(cell, seconds=False), []).append(key)
    together = {text: keys for text, keys in alike.items() if many and len(keys) > _LISTED_ALIKE}
    exact = [key for key, cell in grouped.items() if many and passed(cell)]
    apart = [
        key for key in grouped if key not in exact and not any(key in keys for keys in together.values())
    ]
    if apart:
        table = Table(title=_title(grouped))
        for column in ("checkpoint", "layout", "verdict"):
            table.add_column(column, no_wrap=column == "layout")
        for key in apart:
            table.add_row(*key, _styled(grouped[key]))
        yield table
    for text, keys in together.items():
        if not set(keys) <= set(exact):
            names = ", ".join(name for name, _ in keys[:_NAMED])
            yield f"{text}: {len(keys)} checkpoints, each in one layout: {names} ..."
    if exact:
        yield f"exact: {len(exact)} checkpoints, each in one layout"


def _grid(grouped: Cells, *, width: int, many: bool) -> Iterator[Table | str]:
    checkpoints = list(dict.fromkeys(checkpoint for checkpoint, _ in grouped))
    layouts = list(dict.fromkeys(parallel for _, parallel in grouped))
    rows = [
        layout
        for layout in layouts
        if not many or not all(passed(grouped.get((name, layout), [])) for name in checkpoints)
    ]
    texts = (cell_text(cell) for (_, layout), cell in grouped.items() if layout in rows)
    widest = max(map(len, (*checkpoints, *texts)))
    columns = max(1, (width - max(map(len, layouts)) - 4) // (widest + 3))
    for first in range(0, len(checkpoints), columns) if rows else ():
        table = Table(title=_title(grouped) if first == 0 else None)
        table.add_column("layout", no_wrap=True)
        for checkpoint in checkpoints[first : first + columns]:
            table.add_column(checkpoint)
        for layout in rows:
            row: list[RenderableType] = [layout]
            for checkpoint in checkpoints[first : first + columns]:
                cell = grouped.get((checkpoint, layout), [])
                row.append(_styled(cell) if cell else "not run")
            table.add_row(*row)
        yield table
    if exact := len(layouts) - len(rows):
        yield f"exact: {', '.join(checkpoints)} in {exact}{' other' if rows else ''} layouts"


def _styled(cell: Sequence[Record]) -> Text:
    return Text(cell_text(cell), style="green" if passed(cell) else "bold red")


def _title(grouped: Cells) -> str:
    return next(iter(grouped.values()))[0].bridge

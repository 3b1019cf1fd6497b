"""What a person sees of a run: a table of cells, then what is not exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mtp_regression.comparison.verdicts import Finding, Verdict, worst
from mtp_regression.reporting.record import Record

_CELL_WIDTH = 13
_SHOWN = 5
_LISTED_FROM = 5


def cells(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Group the records by (checkpoint, parallel layout), in the order in which they come."""
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.checkpoint, record.parallel), []).append(record)
    return grouped


def cell_text(records: Sequence[Record]) -> str:
    """Sum up a cell: its gravest verdict, the declared exceptions of one stage, its seconds.

    Args:
        records: The stages of one case.

    Returns:
        Lines such as "exact", "6 declared", "1.2 s".
    """
    lines = [str(worst(record.verdict for record in records))]
    for record in records:
        if record.agreement:
            figure = f"{max(record.agreement.values()):.1e}".replace("e-0", "e-")
            lines.append(f"{'agrees' if record.passed else 'differs'} {figure}")
    if any(record.stale for record in records):
        lines.append("stale exception")
    declared = max(record.declared for record in records)
    if declared:
        lines.append(f"{declared} declared")
    lines.append(f"{records[0].case_seconds:.1f} s")
    return "\n".join(lines)


def tables(records: Sequence[Record], *, width: int) -> Iterator[Table]:
    """Lay the cells out: a row a checkpoint, a column a parallel layout, as many as the width holds.

    Of many checkpoints, those that were in one layout alone are listed below.
    """
    layouts = Counter(checkpoint for checkpoint, _ in cells(records))
    alone = {checkpoint for checkpoint, count in layouts.items() if count == 1}
    if len(alone) < _LISTED_FROM:
        yield from _grid(records, width=width)
        return
    if together := [record for record in records if record.checkpoint not in alone]:
        yield from _grid(together, width=width)
    yield _list([record for record in records if record.checkpoint in alone])


def _list(records: Sequence[Record]) -> Table:
    table = Table(title=records[0].bridge)
    for column in ("checkpoint", "layout", "verdict"):
        table.add_column(column, no_wrap=column == "layout")
    for (checkpoint, parallel), cell in cells(records).items():
        style = "green" if all(record.passed for record in cell) else "bold red"
        table.add_row(checkpoint, parallel, Text(cell_text(cell).replace("\n", ", "), style=style))
    return table


def _grid(records: Sequence[Record], *, width: int) -> Iterator[Table]:
    grouped = cells(records)
    checkpoints = list(dict.fromkeys(checkpoint for checkpoint, _ in grouped))
    parallels = list(dict.fromkeys(parallel for _, parallel in grouped))
    names_width = max(map(len, checkpoints), default=0)
    columns = max(1, (width - names_width - 4) // (_CELL_WIDTH + 3))
    for first in range(0, len(parallels), columns):
        table = Table(title=records[0].bridge if first == 0 else None, show_lines=True)
        table.add_column("checkpoint", no_wrap=True, min_width=names_width)
        for parallel in parallels[first : first + columns]:
            table.add_column(parallel, width=_CELL_WIDTH)
        for checkpoint in checkpoints:
            row: list[RenderableType] = [checkpoint]
            for parallel in parallels[first : first + columns]:
                cell = grouped.get((checkpoint, parallel), [])
                style = "green" if all(record.passed for record in cell) else "bold red"
                row.append(Text(cell_text(cell), style=style) if cell else "not run")
            table.add_row(*row)
        yield table


def findings(records: Sequence[Record]) -> Iterator[str]:
    """Say of every record that did not pass what is wrong with it: the first few tensors, counted."""
    told, told_of = "", tuple[str, ...]()
    for record in records:
        if record.passed:
            continue
        yield f"{record.checkpoint}, {record.parallel}, {record.stage}: {record.verdict}"
        names, others = _other_names(record.tensors)
        yield from (f"  {line}" for line in names)
        graver = [found for found in others if found.verdict is record.verdict]
        yield from _first(f"  {found}" for found in graver)
        yield from _first(f"  stale exception: {stale}" for stale in record.stale)
        if record.crash and record.crash.text == told:
            yield "  for the same reason"
        elif record.crash:
            yield from (f"  {line}" for line in record.crash.text.splitlines())
            told = record.crash.text
        if (warned := (record.checkpoint, record.parallel, *record.warnings)) != told_of:
            yield from _first(f"  the bridge warned: {warning}" for warning in record.warnings)
            told_of = warned


def _other_names(findings: Sequence[Finding]) -> tuple[list[str], list[Finding]]:
    """Tell parameters apart that are only called otherwise than expected.

    Returns:
        A line for each part of the model that has parameters which are missing and others that are not
        expected; and the findings that are of no such part.
    """
    missing, unexpected = (
        Counter(_part(found) for found in findings if found.rank is not None and found.verdict is verdict)
        for verdict in (Verdict.MISSING, Verdict.UNEXPECTED)
    )
    pairs = [([part], [part]) for part in missing if part in unexpected]
    ours, theirs = [*(missing.keys() - unexpected.keys())], [*(unexpected.keys() - missing.keys())]
    if ours and theirs:
        pairs.append((sorted(ours), sorted(theirs)))
    lines, renamed = [], set[tuple[Verdict, str]]()
    for ours, theirs in pairs:
        expected, unknown = (
            sum(count[part] for part in parts) for count, parts in ((missing, ours), (unexpected, theirs))
        )
        below = f" below {', '.join(ours)}." if ours != theirs else ""
        lines.append(
            f"{expected} expected{below} and {unknown} unknown below {', '.join(theirs)}.: other names?"
        )
        renamed |= {(Verdict.MISSING, part) for part in ours} | {
            (Verdict.UNEXPECTED, part) for part in theirs
        }
    others = [
        found for found in findings if found.rank is None or (found.verdict, _part(found)) not in renamed
    ]
    return lines, others


def _part(found: Finding) -> str:
    return found.tensor.partition(".")[0]


def _first(lines: Iterable[str]) -> Iterator[str]:
    all_lines = list(lines)
    yield from all_lines[:_SHOWN]
    if len(all_lines) > _SHOWN:
        yield f"  ... {len(all_lines)} in all"


def show(console: Console, records: Sequence[Record], report: Mapping[str, Any]) -> None:
    """Print the tables, what is wrong, and what the closing lines of a run say.

    Args:
        console: Where to.
        records: The run's.
        report: Made of them.
    """
    for table in tables(records, width=console.width):
        console.print(table)
    for line in findings(records):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    passed = Counter(all(record.passed for record in cell) for cell in cells(records).values())
    engines = ", ".join(sorted({record.engine for record in records} - {""}))
    closing = [
        (
            f"{passed[True]} of {passed.total()} cells exact in {report['seconds']:.1f} s "
            f"after an import of {report['import_seconds']:.1f} s"
            + (f"; modules from {engines}" if engines else "")
        ),
        f"stages: {', '.join(dict.fromkeys(record.stage for record in records))}",
    ]
    closing += [f"not run: {stage}: {reason}" for stage, reason in report["stages_not_run"].items()]
    if report["not_run"]:
        closing.append(f"not run, for want of ranks or GPUs: {', '.join(report['not_run'])}")
    if all(record.ranks == 1 for record in records):
        closing.append("no cell ran on more than one rank: what ranks share was not tested")
    for line in closing:
        console.print(line, soft_wrap=True, highlight=False)

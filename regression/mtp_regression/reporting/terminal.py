"""What a person sees of a run: a verdict, a table of cells, then what is not exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from mtp_regression.reporting.explanations import Facts, explain
from mtp_regression.reporting.folding.fold import fold, fold_reasons, fold_warnings
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.reporting.tables import cells, passed, tables, where_time_went

_SHOWN = 10
_WARNINGS = 4
_LONGEST = 210
_TRACE = 24
"""Lines that tracebacks take together, of which each is shown once."""


def findings(records: Sequence[Record]) -> Iterator[str]:
    """Say what is wrong in records, each thing once and where it was seen: the gravest first.

    Of many things the first are told, and how many more there are; the report has all of them.
    """
    folded = fold(records)
    crashes = sum(1 for one in folded[:_SHOWN] if one.crash)
    for one in folded[:_SHOWN]:
        yield cut(str(one))
        if one.example:
            yield f"  {cut(one.example)}"
        yield f"  in {cut(one.places)}"
        if one.crash:
            yield from (f"    {line}" for line in trace(one.crash, _TRACE // crashes))
    if len(folded) > _SHOWN:
        verdicts = Counter(one.title for one in folded[_SHOWN:])
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield f"... and {len(folded) - _SHOWN} more, which the report has: {told}"
    warned = fold_warnings(records)
    yield from (f"the bridge warned: {cut(warning)}" for warning in warned[:_WARNINGS])
    if len(warned) > _WARNINGS:
        yield f"... and {len(warned) - _WARNINGS} other warnings"


def cut(text: str) -> str:
    """Return a text as one line, of a length that can be read."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 4]} ..."


def trace(crash: Crash, most: int) -> Iterator[str]:
    """Yield what is most telling of a crash's text: the end of a traceback, or the beginning of stacks."""
    body, _, logs = crash.text.partition("\n\nlogs:\n")
    lines = [line for line in body.splitlines() if line.strip(" ^~")]
    if len(lines) <= most:
        yield from lines
    elif crash.kind == "raised":
        yield from (lines[0], "...", *lines[-max(3, most - 2) :])
    else:
        yield from (*lines[: max(3, most)], "...")
    yield from (line.strip() for line in logs.splitlines() if line.strip().startswith(f"rank {crash.rank}:"))


def show(console: Console, records: Sequence[Record], report: Mapping[str, Any]) -> None:
    """Print the verdict, the tables, what is wrong, and what the closing lines of a run say.

    Args:
        console: Where to.
        records: The run's.
        report: Made of them.
    """
    for line in verdict(records, report):
        console.print(line, soft_wrap=True, highlight=False, markup=False, style="bold")
    for table in tables(records, width=console.width):
        console.print(table, highlight=False)
    for line in findings(records):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for line in closing(records, report):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def verdict(records: Sequence[Record], report: Mapping[str, Any]) -> list[str]:
    """Say in three lines what happened, why, and what to do; empty if all passed."""
    folded = fold(records)
    if not folded:
        return []
    explained = explain(Facts(folded, records, report))
    whole = f"what to do: {explained.todo}"  # it may be a command
    return [line if line == whole else cut(line) for line in explained.lines]


def closing(records: Sequence[Record], report: Mapping[str, Any]) -> Iterator[str]:
    """Say how many cells are exact, and what was not run."""
    count = Counter(map(passed, cells(records).values()))
    engines = ", ".join(sorted({record.engine for record in records} - {""}))
    yield (
        f"{count[True]} of {count.total()} cells exact in {report['seconds']:.1f} s "
        f"after an import of {report['import_seconds']:.1f} s"
        + (" (warm server)" if report.get("imported_by") == "server" else "")
        + (f"; modules from {engines}" if engines else "")
    )
    if went := where_time_went(cells(records).values()):
        yield f"where the time went: {went}"
    yield f"stages: {', '.join(dict.fromkeys(record.stage for record in records))}"
    yield from (f"not run: {told}" for told in fold_reasons(report["stages_not_run"]))
    if report["not_run"]:
        yield f"not run, for want of ranks or GPUs: {', '.join(report['not_run'])}"
    if all(record.ranks == 1 for record in records):
        yield "no cell ran on more than one rank: what ranks share was not tested"

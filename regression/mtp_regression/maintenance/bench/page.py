"""Makes docs/benchmarks.md of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mtp_regression.maintenance.bench.growth import STEEPEST
from mtp_regression.maintenance.bench.memory import LIMIT

_HEAD = """\
# What it costs

Made by `nox -s bench`, which measures each thing beside what else would do it, in one run and in turns, and
fails where a limit below is missed. Compare ratios and slopes alone: seconds are this machine's, of that day.
"""
_PAIRS = """\
Whole processes; least / median / most seconds of all runs, of CPU in brackets. The ratio is of the least: how
many times as long the alternative takes. A limit is the least that it may be.

![Alternatives' seconds, divided by the kit's](benchmarks/pairs.svg)
"""
_GROWTH = f"""\
Seconds of CPU without the garbage collector (of ranks, seconds), and the slope of the line through them on
scales of logarithms, without those sizes that take less than 0.01 s: 1 is linear, 2 quadratic. The limit is
{STEEPEST}.

![Seconds as the work grows](benchmarks/growth.svg)
"""
_MEMORY = f"""\
Most resident memory of a process that does nothing else, with interpreter and libraries. Of folders it does
not depend on the tensors. Of a stream it is some 0.1 GB and at most six of the largest tensor: what is
compared, the right one, the two that the generator keeps, and, of what is wrong, those that it may be. What a
rank's bridge holds comes on top. The limit is {LIMIT / 1e9:g} GB.
"""


def page(found: Mapping[str, Any]) -> str:
    """Make the page; see `run.main` for what was found."""
    parts = (
        ("pairs", "Beside the alternatives", _PAIRS, _pairs),
        ("growth", "As the work grows", _GROWTH, _growth),
        ("memory", "Memory", _MEMORY, _memory),
    )
    lines = [_HEAD]
    for name, title, text, table in parts:
        if name in found:
            lines += [f"## {title}\n", text, *table(found[name]["rows"]), "", _where(found[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _where(part: Mapping[str, Any]) -> str:
    return f"{part['date']}: " + ", ".join(
        value if name in ("CPU", "kernel") else f"{name} {value}" for name, value in part["machine"].items()
    )


def _pairs(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _table("what", "seconds", "beside", "seconds", "ratio", "limit")
    for row in rows:
        limit = "" if row["least"] is None else f"{row['least']:g}{_missed(row)}"
        yield _row(
            row["what"], _cost(row["here"]), row["beside"], _cost(row["there"]), f"{row['ratio']:.2g}", limit
        )


def _cost(cost: Mapping[str, Any]) -> str:
    cpu = f" ({_spread(cost['cpu'])})" if cost["cpu"] else ""
    return _spread(cost["seconds"]) + cpu


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values)


def _growth(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _table("what grows", "what is done", "seconds", "slope")
    for row in rows:
        seconds = ", ".join(f"{_number(size)}: {value:.2g}" for size, value in row["points"])
        slope = "too short" if row["slope"] is None else f"{row['slope']:.2f}{_missed(row)}"
        yield _row(row["axis"], row["what"], seconds, slope)


def _number(count: int) -> str:
    for unit, text in ((10**9, "G"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {text}"
    return f"{count:,}"


def _memory(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _table("what", "checkpoint", "largest tensor", "most memory")
    for row in rows:
        sizes = (f"{row[name] / 1e9:.2f} GB" for name in ("bytes", "largest", "peak"))
        checkpoint, largest, peak = sizes
        yield _row(row["what"], checkpoint, largest, peak + _missed(row))


def _missed(row: Mapping[str, Any]) -> str:
    return "" if row["held"] else ", MISSED"


def _table(*columns: str) -> Iterable[str]:
    return _row(*columns), _row(*("---" for _ in columns))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

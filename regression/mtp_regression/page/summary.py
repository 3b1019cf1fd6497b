"""What the page says first: a sentence for each report, and one for what changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mtp_regression.page.cells import Case
from mtp_regression.reporting.differences import Change, Difference

_NAMED = 3


def verdict(cases: Sequence[Case], number: int, report: Mapping[str, Any]) -> str:
    """Sum up a report.

    Args:
        cases: Those of the page.
        number: The report's.
        report: It.

    Returns:
        Such as "24 of 26 cells exact; 2 wrong: qwen3.6-35b-a3b in ep2 and ep4."
    """
    cells = [(case, cell) for case in cases if (cell := case.cells[number])]
    failed = [(case, cell) for case, cell in cells if not cell.passed]
    unfinished, differences = len(report.get("unfinished", ())), len(report.get("differences", ()))
    if not cells:
        return "No cell was run."
    said = f"{len(cells) - len(failed)} of {len(cells)} cells exact"
    if not failed:
        said = f"All {len(cells)} cells are exact" if len(cells) > 1 else "The cell is exact"
    kinds: dict[str, list[Case]] = {}
    for case, cell in sorted(failed, key=lambda pair: -max(r.verdict.severity for r in pair[1].records)):
        kinds.setdefault(cell.title, []).append(case)
    pieces = [f"{len(those)} {title}" for title, those in kinds.items()]
    if len(kinds) == 1:
        pieces = [f"{pieces[0]}: {_places(failed_cases, cells)}" for failed_cases in kinds.values()]
    if unfinished:
        pieces.append(f"{unfinished} did not end")
    if differences:
        pieces.append(f"{differences} not as in the earlier report")
    return "; ".join([said, ", ".join(pieces)] if pieces else [said]) + "."


def _places(failed: Sequence[Case], cells: Sequence[tuple[Case, object]]) -> str:
    of = Counter(case.checkpoint for case, _ in cells)
    layouts: dict[str, list[str]] = {}
    for case in failed:
        layouts.setdefault(case.checkpoint, []).append(case.parallel)
    if len(layouts) > _NAMED:
        return f"in {len(layouts)} of {len(of)} checkpoints"
    told: dict[str, list[str]] = {}
    for name, its in layouts.items():
        some = f"{len(its)} of {of[name]} layouts" if len(its) < of[name] else f"all {len(its)} layouts"
        told.setdefault(together(its) if len(its) <= _NAMED else some, []).append(name)
    return "; ".join(f"{together(names)} in {where}" for where, names in told.items())


def together(words: Collection[str]) -> str:
    """Write words one after the other: "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def comparison(changes: Sequence[Difference], shared: int, before: str, after: str) -> str:
    """Sum up what became of the checks that two reports share."""
    counts = Counter(one.change for one in changes)
    better, worse = counts[Change.BETTER], counts[Change.WORSE]
    same = shared - better - worse
    return (
        f"From {before} to {after}, of {shared} checks in both: "
        f"{better or 'none'} better, {worse or 'none'} worse, {same or 'none'} as before."
    )

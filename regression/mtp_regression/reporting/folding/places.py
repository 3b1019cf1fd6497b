"""Where a finding was seen, in few words: checkpoints, parallel layouts, stages, ranks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from mtp_regression.comparison.verdicts import Finding
from mtp_regression.reporting.record import Record

_LISTED = 4
_PIECES = 3
_EACH = "one layout each"


def where(seen: Sequence[Record], run: Sequence[Record]) -> str:
    """Say where something was seen, of all that was run.

    Args:
        seen: The records in which it was.
        run: Those of the whole run.

    Returns:
        Such as "packed in all 13 layouts: native, stream".
    """
    stages: dict[tuple[str, str], list[str]] = {}
    for record in seen:
        stages.setdefault((record.checkpoint, record.parallel), []).append(record.stage)
    alike: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for cell, its in stages.items():
        alike.setdefault(tuple(dict.fromkeys(its)), []).append(cell)
    every = list(dict.fromkeys((record.checkpoint, record.parallel) for record in run))
    pieces = [f"{_cells(cells, every)}: {', '.join(its)}" for its, cells in alike.items()]
    return _some(pieces, "; ", _PIECES, "places")


def _cells(seen: Sequence[tuple[str, str]], every: Sequence[tuple[str, str]]) -> str:
    """Tell cells: checkpoints that were seen in the same layouts together."""
    alike: dict[str, list[str]] = {}
    count_of = Counter(name for name, _ in every)
    alone = sum(count_of[name] == 1 for name, _ in seen) > _LISTED
    for checkpoint in dict.fromkeys(name for name, _ in seen):
        layouts = [layout for name, layout in seen if name == checkpoint]
        told = _layouts(layouts, [layout for name, layout in every if name == checkpoint])
        told = _EACH if alone and count_of[checkpoint] == 1 else told
        alike.setdefault(told, []).append(checkpoint)
    pieces = []
    for told, names in alike.items():
        all_of_them = "both" if len(count_of) == 2 else f"all {len(count_of)}"
        checkpoints = f"{all_of_them} checkpoints" if len(names) == len(count_of) > 1 else ""
        listed = 1 if told == _EACH else _LISTED
        pieces.append(f"{checkpoints or _some(names, ', ', listed, 'checkpoints')} in {told}")
    return _some(pieces, "; ", _PIECES, "groups of checkpoints")


def _layouts(seen: Sequence[str], every: Sequence[str]) -> str:
    """Tell layouts of one checkpoint: all, all with something in common, all but a few, or a list."""
    if len(seen) == 1:
        return seen[0]
    if len(seen) == len(every):
        return "both layouts" if len(seen) == 2 else f"all {len(every)} layouts"
    words = [word for layout in seen for word in layout.split()]
    for start in dict.fromkeys([*words, *(word.rstrip("0123456789") for word in words)]):
        with_it = [layout for layout in every if re.search(rf"(?:^| ){re.escape(start)}\d*(?: |$)", layout)]
        if with_it == [*seen]:
            return f"all {len(seen)} layouts with {start}"
    others = [layout for layout in every if layout not in seen]
    if len(others) <= 2 < len(seen):
        return f"all layouts but {' and '.join(others)}"
    return _some(seen, ", ", _LISTED, "layouts")


def holders(findings: Iterable[Finding], seen: Sequence[Record]) -> str:
    """Say on which ranks and in which model chunks parameters are; empty where all ranks are meant."""
    on = {found.rank for found in findings if found.rank is not None}
    chunks = {found.chunk for found in findings if found.chunk is not None}
    told = []
    if on and len(on) < max(record.ranks for record in seen):
        told.append(f"rank{'s' * (len(on) > 1)} {', '.join(map(str, sorted(on)))}")
    if chunks and 0 not in chunks:
        told.append(f"chunk{'s' * (len(chunks) > 1)} {', '.join(map(str, sorted(chunks)))}")
    return ", ".join(told)


def _some(pieces: Sequence[str], between: str, most: int, what: str) -> str:
    if len(pieces) <= most + 1:
        return between.join(pieces)
    return f"{between.join(pieces[:most])}{between}... {len(pieces)} {what}"

"""Changes fields of `config.json`, one row after the other, and compares what each release makes of it.

    python -m mtp_regression.maintenance fields [--update] [TEXT]...

What is known of a release is in `known/RELEASE.json`; a difference is an error in both directions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import chain
from pathlib import Path

from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.maintenance.fields.changes import Row, rows
from mtp_regression.maintenance.fields.measure import Measured, measure_each
from mtp_regression.maintenance.known import PATCHED, UPSTREAM, conclude, differences, known_of
from mtp_regression.ranks import run as ranks
from mtp_regression.stages.run import REFUSALS

KNOWN = Path(__file__).with_name("known")
REFERENCE = "transformers"
HONOURS, IGNORES, REFUSES, DIFFERS = "honours", "ignores", "refuses", "differs"
_OWN = tuple(error.__name__ for error in REFUSALS)
_MODULE = MEGATRON_BRIDGE.partition(":")[0]
_AT_ONCE = 8
"""Rows that a process measures; starting it costs as much as two of them."""

Cells = dict[str, str]
"""What became of a row: whether REFERENCE honours the change; UPSTREAM and PATCHED as in `Measured`."""


def choose(words: Sequence[str]) -> list[Row]:
    """Return the rows that have all of some words in their names, and those that they continue."""
    every = [*rows()]
    chosen = [row for row in every if all(word in row.name for word in words)]
    return [row for row in every if any(row == one or one.continues(row) for one in chosen)]


def main(chosen: Sequence[Row], *, update: bool) -> int:
    """Run rows, compare, and update what is known if asked to.

    Returns:
        0 if all is as known and the patched bridge never computes something else; 1 if not.
    """
    release = metadata.version("megatron-bridge")
    found = dict(_run(chosen))
    known = known_of(KNOWN, release, found, (row.name for row in rows()), update=update)
    return conclude(f"{len(found)} rows on {release}", [*differences(known, found), *_problems(found)])


def _run(chosen: Sequence[Row]) -> Iterator[tuple[str, Cells]]:
    """Run rows, as many at a time as there are processors; yields the name and the cells of each."""
    ranks.warm([_MODULE])
    references: dict[Row, Mapping[str, bytes]] = {}
    parts = [chosen[begin : begin + _AT_ONCE] for begin in range(0, len(chosen), _AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for row, measured in zip(chosen, chain.from_iterable(threads.map(_measured, parts)), strict=True):
            before = max(
                (other for other in references if row.continues(other)),
                key=lambda other: len(other.changes),
                default=None,
            )
            references[row] = measured.reference
            cells = dict(zip((UPSTREAM, PATCHED), measured.cells, strict=True))
            cells[REFERENCE] = measured.refusal and f"{REFUSES}: {measured.refusal}"
            if not measured.refusal:
                same = before is None or references[before] == measured.reference
                cells[REFERENCE] = IGNORES if same else HONOURS
            print(f"{row.name}: {cells[REFERENCE]}; {cells[UPSTREAM]}; patched {cells[PATCHED]}", flush=True)
            yield row.name, cells


def _measured(part: Sequence[Row]) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="mtp-fields-") as scratch:
        folders = [
            row.spec().write(Path(scratch, str(number), "checkpoint"), manifest=False)
            for number, row in enumerate(part)
        ]
        measured: list[Measured] = ranks.run(
            measure_each,
            [(folder, row.names) for folder, row in zip(folders, part, strict=True)],
            (MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE),
            world_size=1,
            time_limit=120 * _AT_ONCE,
            log_folder=Path(scratch, "logs"),
            preload=[_MODULE],
        )[0]
    return measured


def _problems(found: Mapping[str, Cells]) -> Iterator[str]:
    """Say which rows no patched release may have."""
    for name, cells in found.items():
        kind, _, raised = cells[PATCHED].partition(": ")
        if cells[REFERENCE].startswith(REFUSES):
            continue  # nothing says what would be right
        if kind == DIFFERS or (kind == "fails" and not raised.startswith(_OWN)):
            yield f"{name}, patched: {cells[PATCHED]}"

"""Reads a checkpoint in every kind of folder and with every fault, and compares with what is known.

    python -m mtp_regression.maintenance folders [--update] [TEXT]...

What is known of a release is in `known/RELEASE.json`; a difference is an error in both directions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from mtp_checkpoint.errors import CheckpointError
from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.faults.fault import Fault
from mtp_fixtures.faults.table import FAULTS, FOLDERS
from mtp_fixtures.faults.write import write_faulty
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.maintenance.folders.measure import RIGHT, measure
from mtp_regression.maintenance.known import PATCHED, UPSTREAM, conclude, differences, known_of
from mtp_regression.ranks import run as ranks
from mtp_regression.stages.run import REFUSALS

KNOWN = Path(__file__).with_name("known")
TRANSFORMERS, INSPECT, ROUNDTRIP = "transformers", "inspect", "roundtrip"
COLUMNS = (TRANSFORMERS, UPSTREAM, PATCHED, INSPECT, ROUNDTRIP)
_OF_VALUES = ("gate-up-swapped", "non-finite", "down-transposed")
_REFUSALS = (
    *(f"fails: {error.__name__}" for error in (*REFUSALS, CheckpointError)),
    "fails: ValueError: Invalid shard filename",  # upstream's own, before the patch is asked
)
_MODULE = MEGATRON_BRIDGE.partition(":")[0]

ROWS = {name: kind for name, kind in (FOLDERS | FAULTS).items() if name not in _OF_VALUES}
"""The rows: kinds of folders that load, then faults, but those that only a comparison of values can tell."""

LOADS = frozenset(name for name, kind in ROWS.items() if kind.expected.startswith("none: it loads"))
"""Rows that are to be carried."""

Cells = dict[str, str]
"""What each of COLUMNS makes of a row; see `measure`."""


def choose(words: Sequence[str]) -> list[Fault]:
    """Return the rows that have all of some words in their names."""
    return [row for row in ROWS.values() if all(word in row.name for word in words)]


def main(chosen: Sequence[Fault], *, update: bool) -> int:
    """Run rows, compare, and update what is known if asked to.

    Returns:
        0 if all is as known, and the patched bridge carries all that it should, and refuses the rest; else 1.
    """
    release = metadata.version("megatron-bridge")
    found = dict(_run(chosen))
    known = known_of(KNOWN, release, found, ROWS, update=update)
    return conclude(f"{len(found)} folders on {release}", [*differences(known, found), *_problems(found)])


def _run(chosen: Sequence[Fault]) -> Iterator[tuple[str, Cells]]:
    ranks.warm([_MODULE])
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for row, cells in zip(chosen, threads.map(_measured, chosen), strict=True):
            print(f"{row.name}: {'; '.join(f'{name} {cell}' for name, cell in cells.items())}", flush=True)
            yield row.name, cells


def _measured(row: Fault) -> Cells:
    with tempfile.TemporaryDirectory(prefix="mtp-folders-") as scratch:
        spec = row.needs(CheckpointSpec(preset("qwen3.6-35b-a3b")))
        folder = write_faulty(spec, row.name, Path(scratch, "folder"), manifest=False)
        sound = spec.write(Path(scratch, "sound"), manifest=False)
        cells: tuple[str, ...] = ranks.run(
            measure,
            *(folder, sound, spec, (MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE)),
            world_size=1,
            time_limit=180,
            log_folder=Path(scratch, "logs"),
            preload=[_MODULE],
        )[0]
    return dict(zip(COLUMNS, cells, strict=True))


def _problems(found: Mapping[str, Cells]) -> Iterator[str]:
    """Say which rows no patched release may have."""
    for name, cells in found.items():
        if cells[UPSTREAM] == RIGHT and cells[PATCHED] != RIGHT:
            yield f"{name}: right as the release is, and patched {cells[PATCHED]}"
        if cells[PATCHED] != RIGHT and not cells[PATCHED].startswith(_REFUSALS):
            yield f"{name}, patched: {cells[PATCHED]}"
        if name in LOADS and cells[PATCHED] != RIGHT:
            yield f"{name} does not load: {cells[PATCHED]}"

"""Runs the stage `forward` on right models, which must agree with transformers, and on wrong ones.

    python -m mtp_regression.maintenance forward

Right are the patched bridge's, of every kind of checkpoint on one rank, and of one in every layout of the
grid. Wrong are those of `faults`. Between the two must be a factor of `APART`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.forward.agreement import BOUND
from mtp_regression.maintenance.forward import faults
from mtp_regression.ranks.parallel import GRID, Parallel
from mtp_regression.reporting.record import Record
from mtp_regression.roundtrip.judge import judge
from mtp_regression.roundtrip.launch import StartedRanks
from mtp_regression.roundtrip.side_by_side import run_side_by_side
from mtp_regression.stages.case import Case, Stage

APART = 100
_IN_ALL_LAYOUTS, _TEXT_ONLY = "qwen3.6-35b-a3b", "MoE, text-only"
_TEXT, _TWO = {"text_only": True}, {"mtp_layers": 2}
CHECKPOINTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    _IN_ALL_LAYOUTS: (_IN_ALL_LAYOUTS, {}),
    "qwen3.5-35b-a3b": ("qwen3.5-35b-a3b", {}),
    "qwen3.5-122b-a10b": ("qwen3.5-122b-a10b", {}),
    "qwen3.5-397b-a17b": ("qwen3.5-397b-a17b", {}),
    "qwen3.6-27b": ("qwen3.6-27b", {}),
    "qwen3.5-0.8b, tied": ("qwen3.5-0.8b", {}),
    "qwen3.5-4b, tied": ("qwen3.5-4b", {}),
    "qwen3.5-9b": ("qwen3.5-9b", {}),
    "MoE, FP8": ("qwen3.6-35b-a3b-fp8", {}),
    "dense, FP8": ("qwen3.6-27b-fp8", {}),
    _TEXT_ONLY: (_IN_ALL_LAYOUTS, _TEXT),
    "dense, text-only": ("qwen3.6-27b", _TEXT),
    "dense, text-only, tied": ("qwen3.5-0.8b", _TEXT),
    "MoE, 2 MTP layers": (_IN_ALL_LAYOUTS, _TWO),
    "dense, 2 MTP layers": ("qwen3.6-27b", _TWO),
    "MoE, no MTP": (_IN_ALL_LAYOUTS, {"mtp_layers": 0}),
}
"""Preset and options of each checkpoint, by the name that is printed."""

_Cell = tuple[str, str, Path, Parallel]
"""What is printed, adapter, checkpoint, layout."""


def main() -> int:
    """Run all; returns 1 if a right model differs, a wrong one agrees, or they are not far enough apart."""
    problems: list[str] = []
    right, wrong = [], []
    with tempfile.TemporaryDirectory(prefix="mtp-forward-") as scratch:
        folder = Path(scratch)
        launch = StartedRanks(time_limit=120)
        launch.warm_all([PATCHED_MEGATRON_BRIDGE, f"{faults.__name__}:any"])  # in one import
        for name, record in _records(launch, _right(folder)):
            right.append(_show(name, record))
            if not record.passed:
                problems.append(f"{name}: {record.verdict}")
        for name, record in _records(launch, _wrong(folder)):
            wrong.append(_show(name, record))
            if record.verdict is not Verdict.DIFFERS:
                problems.append(f"{name} is not seen: {record.verdict}")
    largest, smallest = max(right), min(wrong)
    print(
        f"largest difference of a right model {largest:.1e}, smallest of a wrong one {smallest:.1e}: "
        f"{smallest / largest:.0f} times as large; the bound is {BOUND:.0e}"
    )
    if smallest < APART * largest:
        problems.append(f"they are not {APART} times apart")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _right(folder: Path) -> Iterator[_Cell]:
    for name, (base, options) in CHECKPOINTS.items():
        checkpoint = CheckpointSpec(preset(base), **options).write(folder / name)
        grid = GRID if name == _IN_ALL_LAYOUTS else (Parallel(),)
        for parallel in grid:
            yield f"{name}, {parallel}", PATCHED_MEGATRON_BRIDGE, checkpoint, parallel


def _wrong(folder: Path) -> Iterator[_Cell]:
    for names, checkpoint in ((faults.FIELDS, _TEXT_ONLY), (faults.WIRINGS, _IN_ALL_LAYOUTS)):
        for name in names:
            yield f"wrong: {name}", f"{faults.__name__}:{name}", folder / checkpoint, Parallel()


def _records(launch: StartedRanks, cells: Iterable[_Cell]) -> Iterator[tuple[str, Record]]:
    """Run cells, some at a time; yields their names and records in order."""
    planned = [
        (Case(adapter, folder, parallel, name), (Stage.FORWARD,)) for name, adapter, folder, parallel in cells
    ]
    with tempfile.TemporaryDirectory(prefix="mtp-forward-logs-") as logs:
        evidence = run_side_by_side(launch, Path(logs), planned)
        for (case, _), found in zip(planned, evidence, strict=True):
            [record] = judge(case, found, ())
            yield case.name, record


def _show(name: str, record: Record) -> float:
    """Print what was measured, and return the largest of it."""
    print(f"{name}: {', '.join(_words(record)) or record.verdict}", flush=True)
    return max(record.agreement.values(), default=0.0)


def _words(record: Record) -> Iterable[str]:
    return (f"{output} {figure:.1e}" for output, figure in record.agreement.items())

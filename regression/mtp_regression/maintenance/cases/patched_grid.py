"""Takes what the patch adds through the whole grid of parallel layouts.

    python -m mtp_regression.maintenance patched-grid [FOLDER]

Text-only and vision-language, dense and MoE, grouped and sequential experts, one and two MTP layers, layer
types of pruned models; some also through unequal pipelines. A report a part goes into FOLDER (`reports/`).
Dense models take the layouts without expert parallelism.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.ranks.parallel import DENSE_GRID, GRID, Parallel
from mtp_regression.roundtrip.request import Request
from mtp_regression.roundtrip.run import round_trips
from mtp_regression.scenarios.scenario import Use
from mtp_regression.scenarios.table import PIPELINES

_TEXT, _TWO = {"text_only": True}, {"mtp_layers": 2}
_MOE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "per-expert": ("qwen3.5-35b-a3b", {}),
    "packed": ("qwen3.6-35b-a3b", {}),
    "per-expert-2-layers": ("qwen3.5-35b-a3b", _TWO),
    "packed-2-layers": ("qwen3.6-35b-a3b", _TWO),
    "text-per-expert": ("qwen3.5-35b-a3b", _TEXT),
    "text-packed-2-layers": ("qwen3.6-35b-a3b", _TEXT | _TWO),
}
_DENSE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dense": ("qwen3.6-27b", {}),
    "dense-2-layers": ("qwen3.5-27b", _TWO),
    "dense-tied": ("qwen3.5-0.8b", {}),
    "text-dense-tied-2-layers": ("qwen3.5-0.8b", _TEXT | _TWO),
}
_PRUNED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "packed-last-linear": ("qwen3.6-35b-a3b", {"layer_types": "LFLL"}),
    "text-per-expert-2-layers": ("qwen3.5-35b-a3b", _TEXT | _TWO | {"layer_types": "FLLF"}),
}
_DENSE_PRUNED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dense-last-linear": ("qwen3.6-27b", {"layer_types": "LFLL"}),
    "dense-all-linear": ("qwen3.5-0.8b", {"layer_types": "LLLL"}),
}
_PIPELINED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "per-expert": ("qwen3.5-35b-a3b", {}),
    "text-packed": ("qwen3.6-35b-a3b", _TEXT),
    "dense-tied": ("qwen3.5-0.8b", {}),
}


@dataclass(frozen=True)
class _Part:
    """Checkpoints that are taken through the same layouts in the same way."""

    name: str
    checkpoints: Mapping[str, tuple[str, Mapping[str, Any]]]
    parallels: Sequence[Parallel]
    use: Use = Use.PLAIN


PARTS = (
    _Part("moe", _MOE, GRID),
    _Part("dense", _DENSE, DENSE_GRID),
    _Part("sequential", _MOE, GRID, Use.SEQUENTIAL),
    _Part("pruned", _PRUNED, GRID),
    _Part("dense-pruned", _DENSE_PRUNED, DENSE_GRID),
    _Part("pipelines", _PIPELINED, tuple(PIPELINES)),
)


def main(folder: Path) -> int:
    """Run every part; returns 1 if a cell is not exact."""
    passed = []
    for part in PARTS:
        with tempfile.TemporaryDirectory(prefix="mtp-grid-") as scratch:
            written = [
                CheckpointSpec(preset(name), **options).write(Path(scratch, checkpoint))
                for checkpoint, (name, options) in part.checkpoints.items()
            ]
            request = Request(
                checkpoints=written,
                parallels=part.parallels,
                adapter=part.use.adapter(patched=True),
                report_path=folder / f"patched-grid-{part.name}.json",
            )
            report = round_trips(request, Console())
        passed.append(report is not None and report["passed"])
    return 0 if all(passed) else 1

"""Reads the report of a release that is known to fail packed MTP experts: did it fail as it should?

    python -m mtp_regression.maintenance known-bad reports/known-bad.json

Exits with 0 if every per-expert cell passed, and in every packed cell nothing but the MTP experts was
left unloaded and the bridge had warned of their missing keys; with 1 otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtp_fixtures import ExpertLayout, preset

_WARNING = "Can't find the following HF parameters in hf_keys: ['mtp.layers.0.mlp.experts."


def problems(report: dict[str, Any]) -> Iterator[str]:
    """Yield what is not as it should be."""
    layouts = set()
    for record in report["records"]:
        layout = preset(record["checkpoint"]).mtp_experts
        layouts.add(layout)
        cell = f"{record['checkpoint']}, {record['parallel']}, {record['stage']}"
        if layout is ExpertLayout.PER_EXPERT:
            if not record["passed"]:
                yield f"{cell}: {record['verdict']}, and should pass"
        elif record["stage"] == "native":
            tensors = [found["tensor"] for found in record["tensors"]]
            if record["verdict"] != "poisoned" or not all(
                tensor.startswith("mtp.layers.") for tensor in tensors
            ):
                yield f"{cell}: {record['verdict']}, and MTP experts alone should be poisoned"
            if not any(_WARNING in warning for warning in record["warnings"]):
                yield f"{cell}: no warning of the missing mtp.layers.0.mlp.experts.* keys"
        elif record["passed"]:
            yield f"{cell}: passed, with experts that were never loaded"
    for layout in {ExpertLayout.PER_EXPERT, ExpertLayout.PACKED} - layouts:
        yield f"no checkpoint with {layout} MTP experts was run"


def main(path: Path) -> int:
    """Check a report; returns the exit code."""
    report = json.loads(path.read_text(encoding="utf-8"))
    found = list(problems(report))
    for problem in found:
        print(problem)
    cells = len({(record["checkpoint"], record["parallel"]) for record in report["records"]})
    print(f"known bad: {cells} cells, " + (f"{len(found)} not as expected" if found else "all as expected"))
    return 1 if found else 0

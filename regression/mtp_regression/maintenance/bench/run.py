"""Measures what is asked for, keeps it, and makes docs/benchmarks.md and its figures."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtp_regression.maintenance.bench import growth, memory, pairs
from mtp_regression.maintenance.bench.machine import machine
from mtp_regression.maintenance.bench.page import page

PARTS: Mapping[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "pairs": pairs.measure,
    "growth": growth.measure,
    "memory": memory.measure,
}
"""What can be measured, by name: each yields rows, into a folder for its files."""
DATA = Path("benchmarks", "measured.json")
"""Below the folder of the page: date, machine and rows of each part."""


def main(folder: Path, parts: Sequence[str], scratch: Path | None) -> int:
    """Measure parts, and make the page of these and of what is kept of the others.

    Args:
        folder: Where the page goes; its figures and what was measured into `benchmarks` below it.
        parts: Names of `PARTS`; none makes the page anew, of what is kept.
        scratch: Where 15 GB are free; None: where temporary files go.

    Returns:
        1 if a limit is missed, else 0.
    """
    from mtp_regression.maintenance.bench import figure  # matplotlib is in this job's environment alone

    kept = folder / DATA
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in parts:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
        rows = []
        with tempfile.TemporaryDirectory(prefix="mtp-bench-", dir=scratch) as its:
            for row in PARTS[name](Path(its)):
                print(f"{name}: {json.dumps(row)}", flush=True)
                rows.append(row)
        found[name] = about | {"rows": rows}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmarks.md").write_text(page(found), encoding="utf-8")
    for name, draw in (("pairs", figure.pairs), ("growth", figure.growth)):
        if name in found:
            (kept.parent / f"{name}.svg").write_text(draw(found[name]["rows"]), encoding="utf-8")
    missed = [row for name in found for row in found[name]["rows"] if not row["held"]]
    for row in missed:
        print(f"MISSED: {row.get('axis', '')} {row['what']}".replace("  ", " "))
    return 1 if missed else 0

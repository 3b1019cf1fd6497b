"""What `mtpkit conformance` found with a release of a bridge, against what is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.maintenance.known import differences, known_of

KNOWN = Path(__file__).parent / "known"

Row = dict[str, str]
"""What became of a checkpoint in each parallel layout."""


def main(reports: Iterable[Path], *, update: bool) -> int:
    """Compare reports with what is known of their checks; returns 1 if something is another.

    Args:
        reports: What `mtpkit conformance --report` wrote, one of each release.
        update: Whether to renew what is known, by the report of a run of all checks.
    """
    failed = False
    for path in reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        name, found = rows(report["records"])
        known = known_of(KNOWN, name, found, found, update=update)
        same = {row: {layout: known.get(row, {}).get(layout) for layout in found[row]} for row in found}
        lines = [f"{name}: {line}" for line in differences(same, found)]
        print("\n".join(lines) or f"{name}: {len(found)} checkpoints as known")
        failed |= bool(lines)
    return int(failed)


def rows(records: Iterable[Mapping[str, Any]]) -> tuple[str, dict[str, Row]]:
    """Return the release, such as "mcore-bridge-1.6.5", and its rows by checkpoint.

    A cell names what is not exact, whether it is declared or not, such as "stream dtype + flip, saved flip".
    """
    release = ""
    cells: dict[str, dict[str, list[str]]] = {}
    for record in records:
        release = record["bridge"].replace(" ", "-")
        cell = cells.setdefault(record["checkpoint"], {}).setdefault(record["parallel"], [])
        if word := _word(record):
            cell.append(word)
    return release, {
        checkpoint: {layout: ", ".join(words) or "exact" for layout, words in row.items()}
        for checkpoint, row in cells.items()
    }


def _word(record: Mapping[str, Any]) -> str:
    """Say what a check found, declared or not; nothing if all was exact."""
    stage, crash, tensors = record["stage"], record["crash"], record["tensors"]
    if stage == "refused":
        if crash is None:
            return "loaded"
        return "fails, and names nothing of it" if tensors else "refused"
    if crash is not None:
        return f"{stage} crash-{'import' if crash['stage'] == 'load' else 'export'}"
    found = sorted({Verdict(tensor["verdict"]) for tensor in tensors}, key=lambda verdict: -verdict.severity)
    return f"{stage} {' + '.join(found)}" if found else ""

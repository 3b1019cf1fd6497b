"""A report as a JSON document: made of records, written, and read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtp_regression.megatron.environment import kit_release
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.processes.fork_server import ImportedBy
from mtp_regression.reporting.record import Record

SCHEMA = 5
"""Version of the report, as `docs/report.md` describes it."""


def report_of(
    records: Sequence[Record],
    *,
    device: Device,
    import_seconds: float,
    imported_by: ImportedBy = "command",
    seconds: float,
    deferred: Sequence[str] = (),
    not_run: Sequence[str] = (),
    stages_not_run: Mapping[str, str] = MappingProxyType({}),
    unfinished: Sequence[str] = (),
    command: str = "",
    checkpoints: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Make the JSON report of a run; `docs/report.md` describes it."""
    return {
        "schema": SCHEMA,
        "kit": kit_release(),
        "command": command,
        "checkpoints": {name: dict(about) for name, about in checkpoints.items()},
        "device": device,
        "import_seconds": round(import_seconds, 3),
        "deferred": list(deferred),
        "imported_by": imported_by,
        "seconds": round(seconds, 3),
        "passed": bool(records) and not unfinished and all(record.passed for record in records),
        "not_run": list(not_run),
        "stages_not_run": dict(stages_not_run),
        "unfinished": list(unfinished),
        "records": [_plain(record) for record in records],
    }


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    write_whole(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a file; whoever reads it meanwhile finds the one before it, whole.

    Args:
        path: The file; its folder is made.
        text: All of it, for UTF-8.
        errors: What becomes of characters that are none, as for `str.encode`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8", errors=errors)
    os.replace(unfinished, path)  # noqa: PTH105 - as atomic, and says so


def _plain(record: Record) -> dict[str, Any]:
    plain = asdict(record) | {"passed": record.passed}
    plain["seconds"], plain["case_seconds"] = round(record.seconds, 3), round(record.case_seconds, 3)
    plain["agreement"] = {  # JSON has no infinity
        name: figure if math.isfinite(figure) else None for name, figure in record.agreement.items()
    }
    return plain


def records_of(report: Mapping[str, Any]) -> list[Record]:
    """Make the records of a report that was read.

    Raises:
        ValueError: They are no records.
    """
    try:
        return [Record.of(fields) for fields in report["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"a record of the report cannot be read: {error!r}") from None


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that `mtpkit roundtrip` has written.

    Raises:
        ValueError: There is none, or it is something else, or of another schema.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        schema = report["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no report of a round trip") from None
    if schema != SCHEMA or not isinstance(report.get("records"), list):
        raise ValueError(f"{path} is a report of schema {schema}, and not {SCHEMA}: run it anew")
    return dict(report)

"""Two reports held against each other: a GPU's verdicts should be a CPU's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_COMPARED = ("verdict", "declared", "compared", "tensors", "stale")
"""What two runs of one cell agree in: not times, engines, errors' texts or warnings."""


def compare_reports(report: Mapping[str, Any], earlier: Mapping[str, Any]) -> Iterator[str]:
    """Yield every difference in the cells that two reports share.

    Args:
        report: See `docs/report.md`.
        earlier: Another, which may have more cells.

    Yields:
        A line for each record that differs; a line for each cell that the earlier report lacks.
    """
    known = {_key(record): record for record in earlier["records"]}
    for record in report["records"]:
        key = _key(record)
        if key not in known:
            yield f"{', '.join(key)}: not there"
            continue
        for field in _COMPARED:
            if record[field] != known[key][field]:
                yield f"{', '.join(key)}: {field} {_brief(record[field])}, there {_brief(known[key][field])}"


def _key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["checkpoint"], record["parallel"], record["stage"]


def _brief(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else str(value)

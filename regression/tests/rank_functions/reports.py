"""Reports of two runs, as they are compared."""

from typing import Any


def but_seconds(report: Any) -> Any:
    """Return a report, or a part of one, without what differs between any two runs: how long things took."""
    if isinstance(report, dict):
        timed = {name for name in report if "seconds" in name} | {"case_steps"}
        return {name: but_seconds(value) for name, value in report.items() if name not in timed}
    return [*map(but_seconds, report)] if isinstance(report, list) else report

"""Runs checks on a bridge without pytest: in a script, or on ranks that torchrun or Slurm started."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mtp_regression.conformance.suite import Conformance
from mtp_regression.ranks.world import is_rank
from mtp_regression.roundtrip.run import round_trips


def run_checks(
    bridge: type | str,
    *,
    only: Sequence[str] = (),
    report_path: Path | None = None,
    time_limit: float | None = None,
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Run the suite on a bridge, and print what became of it.

    Args:
        bridge: The adapter's class, which the ranks must be able to import, or its name,
            "package.module:Class".
        only: Patterns of ids of checks, such as "packed-*" and "*::stream"; none takes all.
        report_path: Where the JSON report and the ranks' logs go; None keeps neither. On ranks that torchrun
            or Slurm started its folder must be one that all of them see, and None is
            `reports/conformance.json` in the working folder.
        time_limit: Seconds a case may take; None takes 300.
        console: Where to print; None prints on standard output.

    Returns:
        The report (`docs/report.md`), whose `passed` says whether every check passed; None on a rank other
        than the first, where torchrun or Slurm started the ranks.

    Raises:
        CannotRunError: It is no adapter, cannot be imported, or no check is called like that.
    """
    if report_path is None and is_rank():
        report_path = Path("reports/conformance.json")
    with tempfile.TemporaryDirectory(prefix="mtp-report-") as scratch:
        request = Conformance(
            adapter=name_of(bridge),
            only=only,
            report_path=report_path or Path(scratch, "conformance.json"),
            time_limit=time_limit,
        )
        return round_trips(request, console or Console())


def name_of(bridge: type | str) -> str:
    """Return the name by which ranks import an adapter's class."""
    return bridge if isinstance(bridge, str) else f"{bridge.__module__}:{bridge.__qualname__}"

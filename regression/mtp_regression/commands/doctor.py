"""`mtpkit doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from mtp_regression.commands.console import Json


def doctor(as_json: Json = False) -> None:
    """Say what round trips find here, and what is missing.

    Exits with 1 if a round trip on the CPU cannot run.
    """
    from rich.console import Console
    from rich.table import Table

    from mtp_regression.megatron.environment import examine

    with Console(stderr=True).status("importing the bridge"):
        found = list(examine())
    if as_json:
        print(json.dumps([asdict(finding) | {"missing": finding.missing} for finding in found]))
    else:
        table = Table("what", "found", "without it", box=None, pad_edge=False)
        for finding in found:
            lost = f"no {finding.needed_by}" if finding.missing else ""
            table.add_row(finding.name, finding.found or "-", lost)
        console = Console()
        console.print(table)
        for mend in dict.fromkeys(finding.mend for finding in found if finding.missing and finding.mend):
            console.print(f"from a clone of the kit: {mend}", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if any(finding.missing and finding.mend for finding in found) else 0)

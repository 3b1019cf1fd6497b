"""The commands about this machine: `mtpkit doctor`, `mtpkit server`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.commands.console import Json, fail


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


class Wish(StrEnum):
    """What is wanted of the servers."""

    STATUS = "status"
    STOP = "stop"


def server(
    wish: Annotated[Wish, typer.Argument(help="Say what they are, or end them.")] = Wish.STATUS,
    as_json: Json = False,
) -> None:
    """Show or end the warm servers that MTPKIT_SERVER has started.

    `MTPKIT_SERVER=10` in the environment keeps a bridge imported for the next command, until nothing has
    asked for it in 10 minutes.
    """
    from mtp_regression.server.client import NoServerError, servers, stop

    try:
        found = list(servers())
    except NoServerError as error:
        fail(str(error))
    for place, status in found:
        status["memory"] = _memory(status["pid"])
        if wish is Wish.STOP:
            stop(place, status["pid"])
    if as_json:
        print(json.dumps([status for _, status in found]))
        return
    for _, one in found:
        ended = "ended: " if wish is Wish.STOP else ""
        print(
            f"{ended}{one['pid']}: {one['bridge']}, {one['age'] / 60:.1f} min old, "
            f"idle for {one['idle'] / 60:.1f} min, {one['memory'] / 2**20:.0f} MiB, served {one['served']}"
        )
    if not found:
        print("no warm server")


def _memory(pid: int) -> int:
    """Return the bytes that only a process and its forks have."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

"""The command of `mtpkit` that tells of the patch; torch is not needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mtp_regression.commands.console import Json, fail

if TYPE_CHECKING:
    from mtp_bridge_patch import Status


def patch(as_json: Json = False) -> None:
    """List the patch's fixes, and what the installed Megatron-Bridge has to do with each.

    A fix applies, is not needed (fixed upstream), or is not available (not checked on the release). Exits
    with 2 if Megatron-Bridge is not installed, or no fix knows its release.
    """
    from mtp_bridge_patch import UnsupportedRelease, status_of

    try:
        status = status_of()
    except UnsupportedRelease as error:
        fail(str(error))
    if as_json:
        print(json.dumps(_fields(status)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"megatron-bridge {status.release}")
    table.add_column("fix", no_wrap=True)
    table.add_column("the failure that it removes")
    table.add_column("here")
    for fix, need in status.needs.items():
        table.add_row(fix.id, fix.failure, fix.about(need))
    Console().print(table)


def _fields(status: Status) -> dict[str, object]:
    fixes = [
        {"id": fix.id, "failure": fix.failure, "need": need, "fixed since": fix.fixed_since}
        for fix, need in status.needs.items()
    ]
    return {"release": status.release, "fixes": fixes}

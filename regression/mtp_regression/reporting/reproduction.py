"""The commands that show a failure again: the smallest of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from mtp_regression.reporting.record import Record
from mtp_regression.stages.case import CHECKS


def smallest(records: Iterable[Record]) -> Record | None:
    """Return the record to look at first: it did not pass, on the fewest ranks, in the first stage."""
    failed = (record for record in records if not record.passed)
    order = {str(stage): number for number, stage in enumerate(CHECKS)}
    return min(failed, key=lambda record: (record.ranks, order.get(record.stage, len(order))), default=None)


def reproduce(record: Record, report: Mapping[str, Any]) -> list[str]:
    """Return the commands that come to one record of a report again, the last of which runs the bridge.

    Args:
        record: The record.
        report: The report; one without a command, as a script may make it, has nothing to reproduce.
    """
    command = shlex.split(report.get("command", ""))
    if not command:
        return []
    if command[1] == "conformance":
        return [shlex.join([*command[:3], "--only", record.check])]
    about = report.get("checkpoints", {}).get(record.checkpoint, {})
    words = [*command[:2], *shlex.split(about.get("given", record.checkpoint)), *_bridge(command)]
    words += ["--parallel", record.parallel, "--stage", record.stage]
    return [*filter(None, [about.get("made", "")]), shlex.join(words)]


def _bridge(command: list[str]) -> list[str]:
    """Return those of a command's words that say which bridge it is, and on what."""
    words: list[str] = []
    for option in ("--adapter", "--device"):
        if option in command:
            words += [option, command[command.index(option) + 1]]
    return words + ["--patched"] * ("--patched" in command)

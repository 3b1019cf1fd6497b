"""What became better or worse from one report to the next: the same checkpoint, layout and stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtp_regression.reporting.record import Record

Key = tuple[str, str, str]
BETTER, WORSE = "better", "worse"


@dataclass(frozen=True)
class Change:
    """What became of one check.

    Attributes:
        word: "better" or "worse".
        before: The record of the first report.
        after: That of another.
    """

    word: str
    before: Record
    after: Record


def by_check(records: Sequence[Record]) -> dict[Key, Record]:
    """Give the records of one report by checkpoint, parallel layout and stage."""
    return {(record.checkpoint, record.parallel, record.stage): record for record in records}


def changes(before: Mapping[Key, Record], after: Mapping[Key, Record]) -> dict[Key, Change]:
    """Say which checks that two reports share became better or worse.

    One that fails and failed before is better if its verdict is milder, or the same for fewer tensors.
    """
    found: dict[Key, Change] = {}
    for key, record in after.items():
        if key in before and (word := _word(_badness(before[key]), _badness(record))):
            found[key] = Change(word, before[key], record)
    return found


def _word(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return BETTER if after < before else WORSE if after > before else ""


def _badness(record: Record) -> tuple[int, ...]:
    if record.passed:
        return (0,)
    return 1, record.verdict.severity, len(record.stale), len(record.tensors) - record.declared

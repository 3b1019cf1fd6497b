"""Two reports held against each other: what got better, what got worse, and what changed otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mtp_regression.comparison.verdicts import Finding
from mtp_regression.reporting.document import records_of
from mtp_regression.reporting.folding.places import where
from mtp_regression.reporting.record import Record

_COMPARED = ("verdict", "declared", "compared", "tensors", "stale")
"""What two runs of one cell agree in: not times, engines, errors' texts or warnings."""


class Change(StrEnum):
    """What became of a stage of a case from one report to another, the gravest first.

    Attributes:
        WORSE: It failed and had passed, or has a graver verdict, or of the same more findings that are not
            declared.
        CHANGED: It is neither better nor worse, and not the same.
        BETTER: The reverse of WORSE.
        NEW: The earlier report does not have it.
        GONE: The later one does not.
    """

    WORSE = "worse"
    CHANGED = "changed"
    BETTER = "better"
    NEW = "only in the later"
    GONE = "only in the earlier"


@dataclass(frozen=True)
class Difference:
    """A stage of a case that is not in both reports what it was.

    Attributes:
        change: What became of it.
        record: That of the later report; of what is gone, the earlier's.
        earlier: That of the earlier one, if it is there.
        fields: The fields that differ, of those that are compared.
    """

    change: Change
    record: Record
    earlier: Record | None = None
    fields: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What is different, in one line, without where."""
        if self.change in (Change.NEW, Change.GONE) or self.earlier is None:
            return _state(self.record)
        if (before := _state(self.earlier)) != (now := _state(self.record)):
            return f"{before}, now {now}"
        return ", ".join(
            f"{name} {_brief(getattr(self.earlier, name))}, now {_brief(getattr(self.record, name))}"
            for name in self.fields
        )


def differences(records: Sequence[Record], earlier: Sequence[Record]) -> list[Difference]:
    """Hold the records of a report against those of an earlier one.

    Args:
        records: Those of the later report.
        earlier: Those of the earlier one.

    Returns:
        One for each stage of a case that is not the same, in the order of the later report; then those that
        only the earlier one has.
    """
    known = {_key(record): record for record in earlier}
    found = []
    for record in records:
        before = known.pop(_key(record), None)
        if before is None:
            found.append(Difference(Change.NEW, record))
        elif fields := tuple(name for name in _COMPARED if getattr(record, name) != getattr(before, name)):
            found.append(Difference(_change(before, record), record, before, fields))
    return found + [Difference(Change.GONE, record) for record in known.values()]


def compare_reports(report: Mapping[str, Any], earlier: Mapping[str, Any]) -> Iterator[str]:
    """Yield every difference in the cells that two reports share, as `--compare` prints them.

    Args:
        report: See `docs/report.md`.
        earlier: Another, which may have more cells.

    Yields:
        A line for each field of a record that differs; a line for each cell that the earlier report lacks.
    """
    for found in differences(records_of(report), records_of(earlier)):
        where = ", ".join(_key(found.record))
        if found.earlier is None:
            yield from [f"{where}: not there"] if found.change is Change.NEW else []
            continue
        for name in found.fields:
            now, before = _brief(getattr(found.record, name)), _brief(getattr(found.earlier, name))
            yield f"{where}: {name} {now}, there {before}"


def told(found: Iterable[Difference], run: Sequence[Record]) -> list[tuple[Change, str, str]]:
    """Tell differences, each once with where it was seen: the gravest first.

    Args:
        found: The differences.
        run: All records of both reports.

    Returns:
        Of each the change, a sentence, and the places.
    """
    alike: dict[tuple[Change, str], list[Record]] = {}
    for one in found:
        alike.setdefault((one.change, one.sentence), []).append(one.record)
    order = [*Change]
    lines = [(change, sentence, where(records, run)) for (change, sentence), records in alike.items()]
    return sorted(lines, key=lambda line: order.index(line[0]))


def _change(before: Record, now: Record) -> Change:
    rank, rank_before = _rank(now), _rank(before)
    if rank == rank_before:
        return Change.CHANGED
    return Change.WORSE if rank > rank_before else Change.BETTER


def _rank(record: Record) -> tuple[bool, int, int]:
    """Say how bad a record is: whether it failed, its verdict, how much of it is not declared."""
    undeclared = sum(not finding.declared for finding in record.tensors)
    return not record.passed, record.verdict.severity, undeclared + len(record.stale)


def _state(record: Record) -> str:
    pieces = [str(record.verdict)]
    if undeclared := sum(not finding.declared for finding in record.tensors):
        pieces.append(f"{undeclared} tensor{'s' * (undeclared != 1)}")
    if record.declared:
        pieces.append(f"{record.declared} declared")
    if record.stale:
        pieces.append(f"{len(record.stale)} stale")
    return " ".join([pieces[0], *([f"({', '.join(pieces[1:])})"] if pieces[1:] else [])])


def _key(record: Record) -> tuple[str, str, str]:
    return record.checkpoint, record.parallel, record.stage


def _brief(value: str | int | Sequence[Finding] | Sequence[str]) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else str(value)

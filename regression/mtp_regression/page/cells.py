"""The cells of one or several reports: what each shows in the grid, and what it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mtp_regression.comparison.verdicts import worst
from mtp_regression.page.logs import Log
from mtp_regression.reporting.differences import Change
from mtp_regression.reporting.folding.fold import Folded, fold
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.reporting.tables import agreements, where_time_went


@dataclass
class Cell:
    """The stages of one case, of one report.

    Attributes:
        report: The report's number.
        records: The stages.
        changes: What became of them since the first report, by stage.
        logs: The ranks' logs.
    """

    report: int
    records: Sequence[Record]
    changes: Mapping[str, Change] = field(default_factory=dict)
    logs: Sequence[Log] = ()

    @property
    def passed(self) -> bool:
        """Whether every stage did."""
        return all(record.passed for record in self.records)

    @cached_property
    def title(self) -> str:
        """The gravest verdict; where all are exact and it did not pass, why not."""
        verdict = worst(record.verdict for record in self.records if not record.passed)
        if self.passed or verdict.severity:
            return str(verdict)
        return "stale exception" if any(record.stale for record in self.records) else "nothing compared"

    @cached_property
    def notes(self) -> list[str]:
        """What the grid says below the verdict."""
        failed = [str(record.stage) for record in self.records if not record.passed]
        some = len(failed) > 2 and len(failed) == len(self.records)
        notes = [f"all {len(failed)} stages" if some else ", ".join(failed)] if failed else []
        notes += agreements(self.records)
        if declared := max(record.declared for record in self.records):
            notes.append(f"{declared} declared")
        return notes

    @property
    def change(self) -> str:
        """Whether it became worse, in any stage, or better."""
        found = set(self.changes.values())
        return Change.WORSE if Change.WORSE in found else Change.BETTER if found else ""

    @cached_property
    def reasons(self) -> list[Folded]:
        """What is wrong with it."""
        return fold(self.records)

    @property
    def crashes(self) -> list[Crash]:
        """Why stages did not end: each reason once."""
        return list({crash.text: crash for record in self.records if (crash := record.crash)}.values())

    @property
    def warnings(self) -> list[str]:
        """What the bridge's loggers said."""
        return list(dict.fromkeys(warning for record in self.records for warning in record.warnings))

    @property
    def about(self) -> str:
        """What a person asks next: how many ranks, how long, and what took most."""
        ranks, seconds = self.records[0].ranks, self.records[0].case_seconds
        went = where_time_went([self.records])
        return f"{ranks} rank{'s' * (ranks != 1)}, {seconds:.1f} s" + (f": {went}" if went else "")


@dataclass
class Case:
    """A checkpoint in a parallel layout, in all reports.

    Attributes:
        number: Its place on the page.
        checkpoint: The checkpoint's name.
        parallel: The layout.
        cells: Of each report; None where it has not run there.
    """

    number: int
    checkpoint: str
    parallel: str
    cells: list[Cell | None]

    @property
    def there(self) -> list[Cell]:
        """The cells that were run."""
        return [cell for cell in self.cells if cell]

    @property
    def failed(self) -> bool:
        """Whether it did in any report."""
        return not all(cell.passed for cell in self.there)

    @property
    def changed(self) -> bool:
        """Whether it became better or worse."""
        return any(cell.change for cell in self.there)


def cases_of(reports: Sequence[Sequence[Record]]) -> list[Case]:
    """Put the records of several reports together, in the order in which they come."""
    found: dict[tuple[str, str], list[list[Record]]] = {}
    for number, records in enumerate(reports):
        for record in records:
            key = record.checkpoint, record.parallel
            found.setdefault(key, [[] for _ in reports])[number].append(record)
    return [
        Case(number, *key, [Cell(of, records) if records else None for of, records in enumerate(each)])
        for number, (key, each) in enumerate(found.items(), 1)
    ]

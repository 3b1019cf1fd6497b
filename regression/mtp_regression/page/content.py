"""All that the page shows, ready for its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtp_regression.page.cells import Case, Cell, cases_of
from mtp_regression.page.logs import log
from mtp_regression.page.summary import comparison, together, verdict
from mtp_regression.reporting.differences import Change, Difference, differences
from mtp_regression.reporting.document import records_of
from mtp_regression.reporting.explanations import Explanation, Facts, explain
from mtp_regression.reporting.folding.fold import Folded, fold, fold_reasons
from mtp_regression.reporting.record import Crash, Record

FIRST, REASONS = 5, 30
"""How many of a list are shown at once, and how many reasons in all."""
_LISTED_FROM = 5
_TENSORS, _CRASHES, _LOGS = 4000, 600_000, 400_000
"""What a page has room for, in all: tensors, and characters of tracebacks and of logs."""


@dataclass
class Content:
    """What the template reads.

    Attributes:
        reports: The reports.
        titles: What each is called.
        records: Their records.
        cases: Every cell, of all reports.
    """

    reports: Sequence[Mapping[str, Any]]
    titles: Sequence[str]
    records: Sequence[Sequence[Record]]
    cases: Sequence[Case]

    @property
    def heading(self) -> str:
        """What the page is of."""
        return f"Checks of {together(list(self.titles))}"

    @property
    def passed(self) -> bool:
        """Whether all of it did."""
        return all(self.report_passed(number) for number in range(len(self.reports)))

    def report_passed(self, number: int) -> bool:
        """Whether a report's cells did, and all ended."""
        report = self.reports[number]
        cells = [case.cells[number] for case in self.cases if case.cells[number]]
        incomplete = report.get("unfinished") or report.get("differences")
        return bool(cells) and not incomplete and all(cell.passed for cell in cells if cell)

    def verdict(self, number: int) -> str:
        """Sum up a report in a sentence."""
        return verdict(self.cases, number, self.reports[number])

    @cached_property
    def changes(self) -> list[list[Difference]]:
        """What became better or worse since the first report, in each of the others."""
        first, *others = self.records
        told = (Change.BETTER, Change.WORSE)
        return [[one for one in differences(other, first) if one.change in told] for other in others]

    @property
    def changed(self) -> list[tuple[int, list[Difference]]]:
        """The same, with the other report's number, where there is something."""
        return [(number, found) for number, found in enumerate(self.changes, 1) if found]

    def comparison(self, number: int) -> str:
        """Sum up what became of the checks from the first report to another, whose number is at least 1."""
        first, other = ({record.check for record in self.records[of]} for of in (0, number))
        shared = len(first & other)
        return comparison(self.changes[number - 1], shared, self.titles[0], self.titles[number])

    def facts(self, number: int) -> list[tuple[str, str]]:
        """Say what was run, how, and what was not."""
        report, records = self.reports[number], self.records[number]
        engines = ", ".join(sorted({record.engine for record in records} - {""}))
        ranks = {record.ranks for record in records}
        facts = [
            ("bridge", ", ".join(dict.fromkeys(record.bridge for record in records))),
            ("modules from", engines),
            ("ranks", f"{min(ranks)} to {max(ranks)}, {report.get('device', '')}" if ranks else ""),
            ("stages", ", ".join(dict.fromkeys(record.stage for record in records))),
            ("took", f"{report.get('seconds', 0):.0f} s"),
            ("mtp-bridge-kit", str(report.get("kit", ""))),
            *(("not run", told) for told in fold_reasons(report.get("stages_not_run", {}))),
            ("not run", ", ".join(report.get("not_run", ()))),
            ("did not end", "; ".join(report.get("unfinished", ()))),
            *(("not as before", line) for line in report.get("differences", ())),
        ]
        if ranks == {1}:
            facts.append(("not tested", "what ranks share: no cell ran on more than one"))
        declared = sum(record.declared for record in records)
        facts.append(
            ("declared", f"{declared} failures that the bridge is known to have" if declared else "")
        )
        return [(name, text) for name, text in facts if text]

    @cached_property
    def reasons(self) -> list[tuple[int, list[Folded]]]:
        """What failed and why, of each report in which something did."""
        folded = [(number, fold(records)) for number, records in enumerate(self.records)]
        return [(number, reasons) for number, reasons in folded if reasons]

    def explanation(self, number: int) -> Explanation | None:
        """What happened in a report, why, and what to do; None if nothing failed."""
        folded = dict(self.reasons).get(number)
        return explain(Facts(folded, self.records[number], self.reports[number])) if folded else None

    def case_of(self, record: Record) -> Case:
        """Find the case that a record is of."""
        return self._numbers[record.checkpoint, record.parallel]

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], Case]:
        return {(case.checkpoint, case.parallel): case for case in self.cases}

    @cached_property
    def alone(self) -> list[Case]:
        """Checkpoints that are in one layout alone, where they are many: a list, and no row of the grid."""
        layouts = Counter(case.checkpoint for case in self.cases)
        alone = [case for case in self.cases if layouts[case.checkpoint] == 1]
        return alone if len(alone) >= _LISTED_FROM else []

    @cached_property
    def layouts(self) -> list[str]:
        """The columns of the grid."""
        apart = {case.number for case in self.alone}
        return list(dict.fromkeys(case.parallel for case in self.cases if case.number not in apart))

    @cached_property
    def rows(self) -> list[tuple[str, list[Case | None]]]:
        """The rows of the grid: a checkpoint, and its case of each layout."""
        apart = {case.checkpoint for case in self.alone}
        names = dict.fromkeys(case.checkpoint for case in self.cases if case.checkpoint not in apart)
        return [(name, [self._numbers.get((name, layout)) for layout in self.layouts]) for name in names]

    @cached_property
    def tensors_shown(self) -> int:
        """How many tensors of a stage there is room for."""
        return _share(_TENSORS, sum(bool(record.tensors) for each in self.records for record in each), 2000)

    def crash_text(self, crash: Crash) -> str:
        """What is known of a crash: the end of it, if it is long."""
        most = _share(_CRASHES, len(self._crashes), 20_000)
        cut = len(crash.text) > most
        return f"... cut here: the report has all of it\n{crash.text[-most:]}" if cut else crash.text

    def crash_number(self, crash: Crash) -> int:
        """The number of a crash on the page, by what is known of it."""
        return self._crashes[crash.text][0]

    def crash_is_told_in(self, crash: Crash, cell: Cell) -> bool:
        """Whether a cell is the first with this crash: the others refer to it."""
        return self._crashes[crash.text][1] is cell

    @cached_property
    def _crashes(self) -> dict[str, tuple[int, Cell]]:
        found: dict[str, tuple[int, Cell]] = {}
        for case in self.cases:
            for cell in case.there:
                for crash in cell.crashes:
                    found.setdefault(crash.text, (len(found) + 1, cell))
        return found


def content_of(
    reports: Sequence[Mapping[str, Any]], titles: Sequence[str], folders: Sequence[Path]
) -> Content:
    """Read reports into what the page shows; see `write.write_page`."""
    records = [records_of(report) for report in reports]
    content = Content(reports, titles or _titles(records), records, cases_of(records))
    for number, found in content.changed:
        for change in found:
            cell = content.case_of(change.record).cells[number]
            assert cell is not None
            cell.changes = {**cell.changes, change.record.stage: change.change}
    failed = [cell for case in content.cases for cell in case.there if not cell.passed]
    recorded = {id(cell): _logs(cell) for case in content.cases for cell in case.there}
    most = _share(_LOGS, sum(len(recorded[id(cell)]) for cell in failed), 8000)
    for case in content.cases:
        for cell in case.there:
            folder = folders[cell.report] if folders and not cell.passed else None
            cell.logs = [log(path, folder, most) for path in recorded[id(cell)]]
    return content


def _logs(cell: Cell) -> list[str]:
    return list(dict.fromkeys(path for record in cell.records for path in record.logs))


def _titles(records: Sequence[Sequence[Record]]) -> list[str]:
    """Call each report by its bridge, and by its number too where two have one name."""
    names = [next((record.bridge for record in each), "no bridge") for each in records]
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


def _share(all_of_it: int, among: int, most: int) -> int:
    return max(FIRST, min(most, all_of_it // max(1, among)))

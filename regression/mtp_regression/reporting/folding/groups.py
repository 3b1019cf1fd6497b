"""Which findings are one: those that agree in verdict, in what is said, and in names but for numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.reporting.folding.names import general, kind, template
from mtp_regression.reporting.record import Crash, Record

STALE = "stale exception"
NOTHING = "nothing was compared"
_FEW = 8


@dataclass
class Group:
    """Findings that are one, or a crash.

    Attributes:
        verdict: Of all of it; EXACT for what is declared and did not happen, and if nothing was compared.
        findings: All of them, with those of the same name on other ranks and in other records.
        seen: The records, by their number in the run.
        crash: The first of the crashes.
        renamed: The findings that belong to these under other names.
        said: What is no finding's and no crash's.
        loose: Whether not each of the findings was in each of the records.
    """

    verdict: Verdict
    findings: list[Finding] = field(default_factory=list)
    seen: dict[int, Record] = field(default_factory=dict)
    crash: Crash | None = None
    renamed: list[Finding] = field(default_factory=list)
    said: str = ""
    loose: bool = False

    def take(self, other: Group) -> None:
        """Take in another one, which is the same."""
        self.findings += other.findings
        self.seen |= other.seen
        self.crash = self.crash or other.crash
        self.said = self.said or other.said

    @property
    def tensors(self) -> set[str]:
        """The names."""
        return {found.tensor for found in self.findings}

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key: the gravest, then the widest."""
        cells = {(record.checkpoint, record.parallel) for record in self.seen.values()}
        return -self.verdict.severity, -len(cells), -len(self.tensors)


def grouped(records: Sequence[Record]) -> list[Group]:
    """Group all that is wrong in records, and not declared, in the order in which it comes."""
    groups: dict[Hashable, Group] = {}
    for number, record in enumerate(records):
        if not record.passed:
            for key, one in _of_record(record):
                one.seen[number] = record
                if key in groups:
                    groups[key].take(one)
                else:
                    groups[key] = one
    return [*groups.values()]


def _of_record(record: Record) -> Iterator[tuple[Hashable, Group]]:
    """Yield what is wrong in a record, each with what it is one by."""
    if crash := record.crash:
        yield (
            (record.verdict, crash.exception, general(template(crash.message))),
            Group(record.verdict, crash=crash),
        )
    undeclared = [found for found in record.tensors if not found.declared]
    for found in undeclared:
        names = template(found.tensor), found.rank is None
        yield (found.verdict, alike(found), names), Group(found.verdict, [found])
    for stale in record.stale:
        name, _, reason = stale.partition(": ")
        yield (STALE, reason), Group(Verdict.EXACT, [Finding(name, Verdict.EXACT, reason)])
    if not (record.crash or undeclared or record.stale):
        yield NOTHING, Group(Verdict.EXACT, said=NOTHING)


def alike(found: Finding) -> str:
    """Return what findings have in common that say the same."""
    return general(found.origin) or kind(found.detail)


def merged(groups: Iterable[Group]) -> list[Group]:
    """Put groups together that differ in names alone: same verdict, detail and places.

    If there are many, places that are of the same stages are the same.
    """
    apart = _merged(groups, lambda group: tuple(group.seen))
    if len(apart) <= _FEW:
        return apart
    return _merged(apart, lambda group: tuple(sorted({record.stage for record in group.seen.values()})))


def _merged(groups: Iterable[Group], places: Callable[[Group], Hashable]) -> list[Group]:
    together: dict[Hashable, Group] = {}
    for number, group in enumerate(groups):
        if not group.findings or group.renamed or group.verdict is Verdict.EXACT:
            together[number] = group
            continue
        found = group.findings[0]
        key = group.verdict, alike(found), found.rank is None, places(group)
        if key in together:
            known = together[key]
            known.loose = known.loose or group.loose or known.seen.keys() != group.seen.keys()
            known.take(group)
        else:
            together[key] = group
    return [*together.values()]

"""What a run found, told once each: the same finding in many tensors, layouts, ranks and stages is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.reporting.folding.groups import NOTHING, STALE, Group, grouped, merged
from mtp_regression.reporting.folding.names import patterns
from mtp_regression.reporting.folding.pairs import OTHER_LAYOUT, paired
from mtp_regression.reporting.folding.places import holders, where
from mtp_regression.reporting.record import Crash, Record

_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class Folded:
    """One thing that is wrong, wherever it was seen.

    Attributes:
        verdict: What it comes to; EXACT for what is declared and did not happen, and if nothing was compared.
        seen: The records in which it was, in the order of the run.
        places: The same in words, such as "packed in all 13 layouts: native".
        findings: The tensors' findings, in the order in which they came; none for a crash.
        renamed: Findings of tensors that belong to these, and have other names or are in the other layout.
        crash: The first crash, if it is one.
        said: What is neither a tensor's nor a crash's.
    """

    verdict: Verdict
    seen: Sequence[Record]
    places: str
    findings: Sequence[Finding] = ()
    renamed: Sequence[Finding] = ()
    crash: Crash | None = None
    said: str = ""

    @cached_property
    def tensors(self) -> list[str]:
        """The tensors' names, each once."""
        return _once(self.findings)

    @cached_property
    def names(self) -> list[str]:
        """The same, as patterns: `mtp.layers.0.mlp.experts.{0-7}.{gate,up,down}_proj.weight`."""
        return [*map(str, patterns(self.tensors))]

    @property
    def title(self) -> str:
        """The verdict, as people read it."""
        if self.verdict is not Verdict.EXACT:
            return str(self.verdict)
        return NOTHING if self.said == NOTHING else STALE

    @cached_property
    def sentence(self) -> str:
        """What is wrong, in one line, without the verdict."""
        if self.crash:
            first = next(iter(self.crash.message.strip().splitlines()), "")
            return ": ".join(filter(None, [self.crash.exception.rpartition(".")[2], first]))
        if not self.findings:
            return ""
        names = _first_names(self.names)
        if self.renamed:
            others = _once(self.renamed)
            there = f"{_count(others)}, {_first_names([*map(str, patterns(others))])}"
            if self.said == OTHER_LAYOUT:
                return f"{_count(self.tensors)}, {names}: {self.said}, as {there}"
            return f"{self.said} {_count(self.tensors)} expected, {names}; unknown: {there}"
        found = self.findings[0]
        if len(self.tensors) == 1:
            return f"{found.tensor}: {found.origin or found.detail or self.verdict}"
        alike = {found.origin or found.detail for found in self.findings}
        said = f": {found.origin or found.detail}" if len(alike) == 1 else ""
        return f"{_count(self.tensors)}, {names}{said if len(said) > 2 else ''}"

    @cached_property
    def example(self) -> str:
        """The first of several findings that say different things; empty if the sentence says it."""
        if self.renamed or len(self.tensors) < 2:
            return ""
        alike = {found.origin or found.detail for found in self.findings}
        return str(self.findings[0]) if len(alike) > 1 else ""

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.title, self.sentence]))


def fold(records: Sequence[Record]) -> list[Folded]:
    """Tell every thing that is wrong once, with where it was seen: the gravest first, then the widest.

    Findings are one if verdict, origin or kind of detail, and names agree but for numbers and projections;
    and then those with the same verdict, detail and places, whatever their names. Crashes are one if
    exception and message agree but for numbers, names and paths. `missing` and `unexpected` tensors that
    belong together are one, as are both sides of a `flip`. What is declared is left out.

    Args:
        records: Those of the whole run, which passed and which did not.
    """
    groups = sorted(merged(paired(grouped(records))), key=lambda group: group.order)
    return [_folded(group, records) for group in groups]


def fold_warnings(records: Sequence[Record]) -> list[str]:
    """Tell what the bridge warned of in records that did not pass, alike warnings as one."""
    failed = (record for record in records if not record.passed)
    found = patterns(warning for record in failed for warning in record.warnings)
    return [f"{text} ({count} like this)" if count > 1 else text for text, count, _ in found]


def fold_reasons(not_run: Mapping[str, str]) -> list[str]:
    """Tell what was not run and why, all that has one reason together."""
    alike: dict[str, list[str]] = {}
    for what, why in not_run.items():
        alike.setdefault(why, []).append(what)
    return [f"{', '.join(what)}: {why}" for why, what in alike.items()]


def _folded(group: Group, records: Sequence[Record]) -> Folded:
    seen = [group.seen[number] for number in sorted(group.seen)]
    told = [where(seen, records), holders(group.findings, seen), "not each of them everywhere" * group.loose]
    return Folded(
        verdict=group.verdict,
        seen=seen,
        places="; ".join(filter(None, told)),
        findings=group.findings,
        renamed=group.renamed,
        crash=group.crash,
        said=group.said,
    )


def _once(findings: Iterable[Finding]) -> list[str]:
    return list(dict.fromkeys(found.tensor for found in findings))


def _count(names: Sequence[str]) -> str:
    noun = "field" if ": " in names[0] else "tensor"  # of a file beside the weights
    return f"{len(names)} {noun}{'s' * (len(names) != 1)}"


def _first_names(names: Sequence[str]) -> str:
    if len(names) <= _NAMES + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES])} ... {len(names)} kinds"

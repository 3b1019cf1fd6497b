"""What is wrong in records, told once each."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.reporting.record import Record

_LISTED = 4


@dataclass
class Reason:
    """One thing that is wrong, wherever it was seen.

    Attributes:
        title: The verdict, as people read it.
        seen: The records in which it was.
        findings: The tensors' findings; none for a crash.
        said: What a crash said, or a stale exception.
    """

    title: str
    severity: int
    seen: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    said: str = ""

    @property
    def sentence(self) -> str:
        """What is wrong, in one line, without the verdict."""
        if not self.findings:
            return self.said
        names = list(dict.fromkeys(found.tensor for found in self.findings))
        first = self.findings[0]
        if len(names) == 1:
            return f"{first.tensor}: {first.origin or first.detail or first.verdict}"
        return f"{len(names)} tensors, such as {first.tensor}: {first.origin or first.detail}"

    @property
    def places(self) -> str:
        """Where it was seen, in words."""
        layouts: dict[str, list[str]] = {}
        for record in self.seen:
            layouts.setdefault(record.checkpoint, []).append(record.parallel)
        pieces = [f"{name} in {_some(list(dict.fromkeys(its)))}" for name, its in layouts.items()]
        stages = ", ".join(dict.fromkeys(record.stage for record in self.seen))
        return f"{'; '.join(pieces[:_LISTED])}{' ...' * (len(pieces) > _LISTED)}: {stages}"


def fold(records: Sequence[Record]) -> list[Reason]:
    """Tell every thing that is wrong once, with where it was seen: the gravest first, then the widest.

    Args:
        records: Those that passed, too.
    """
    reasons: dict[Hashable, Reason] = {}
    for record in records:
        for key, title, severity, finding, said in () if record.passed else _of(record):
            reason = reasons.setdefault((title, key), Reason(title, severity, said=said))
            if not reason.seen or reason.seen[-1] is not record:
                reason.seen.append(record)
            if finding:
                reason.findings.append(finding)
    return sorted(reasons.values(), key=lambda reason: (-reason.severity, -len(reason.seen)))


def _of(record: Record) -> Iterator[tuple[Hashable, str, int, Finding | None, str]]:
    title, severity = str(record.verdict), record.verdict.severity
    if crash := record.crash:
        first = next(iter(crash.message.strip().splitlines()), "")
        said = ": ".join(filter(None, [crash.exception.rpartition(".")[2], first]))
        yield _general(said), title, severity, None, said
    for found in record.tensors if record.verdict is not Verdict.EXACT else ():
        if not crash and found.verdict is record.verdict:
            said = found.origin or found.detail
            yield (_general(found.tensor), _general(said)), title, severity, found, ""
    for stale in record.stale:
        yield stale, "stale exception", 0, None, stale
    if not (crash or record.tensors or record.stale):
        yield "", title if severity else "nothing was compared", severity, None, ""


def _general(text: str) -> str:
    return re.sub(r"/\S+|0x[0-9a-f]+|-?\d+(\.\d+)?(e-?\d+)?", "N", text)


def _some(layouts: Sequence[str]) -> str:
    return ", ".join(layouts) if len(layouts) <= _LISTED else f"{len(layouts)} layouts"

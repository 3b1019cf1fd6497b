"""Records: one for each export of each case, and the report that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mtp_regression.comparison.generated import tensors_of
from mtp_regression.comparison.verdicts import Finding, Verdict, worst
from mtp_regression.megatron.environment import kit_release
from mtp_regression.ranks.devices import Device
from mtp_regression.roundtrip.case import EXPORTS, About, Case, Crash, Evidence, Outcome, Stage
from mtp_regression.roundtrip.declared import DeclaredException, sort_findings

SCHEMA = 2
"""Version of the report, as `docs/report.md` describes it."""


@dataclass(frozen=True)
class Record:
    """The outcome of one export of one case; `docs/report.md` describes the fields."""

    bridge: str
    engine: str
    checkpoint: str
    parallel: str
    ranks: int
    export: str
    verdict: Verdict
    declared: int
    seconds: float
    case_seconds: float
    compared: int = 0
    load_seconds: float = 0.0
    peak_gpu_bytes: int = 0
    tensors: list[Finding] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    crash: Crash | None = None
    warnings: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all of it is exact but for declared exceptions, none stale."""
        return self.verdict is Verdict.EXACT and not self.stale and self.compared > 0


def judge(case: Case, evidence: Evidence, exceptions: Sequence[DeclaredException]) -> list[Record]:
    """Make a case's records, one for each export.

    Args:
        case: The case.
        evidence: What its ranks left.
        exceptions: All that are declared, whether they apply or not.
    """
    about = evidence.about or About(case.adapter, "?", "?")
    source = tensors_of(case.checkpoint, case.generated)
    loaded = evidence.outcomes.get(Stage.LOAD)
    common: dict[str, Any] = {
        "bridge": f"{about.bridge} {about.release}",
        "engine": about.engine,
        "checkpoint": case.name,
        "parallel": str(case.parallel),
        "ranks": case.parallel.ranks,
        "case_seconds": evidence.seconds,
        "load_seconds": round(max((outcome.seconds for outcome in loaded or ()), default=0.0), 3),
        "warnings": sorted({warning for outcome in loaded or () for warning in outcome.warnings}),
        "logs": [str(path) for path in evidence.logs],
    }
    records = []
    for export in EXPORTS:
        if export not in evidence.outcomes:
            crash = evidence.crashes[export]
            records.append(
                Record(**common, export=export, verdict=crash.verdict, declared=0, seconds=0.0, crash=crash)
            )
            continue
        outcomes = evidence.outcomes[export]
        findings = merge(outcomes, by_rank=export is Stage.NATIVE)
        applying = [
            entry
            for entry in exceptions
            if entry.applies(bridge=about.bridge, release=about.release, export=export)
        ]
        held = sort_findings(findings, source, applying)
        records.append(
            Record(
                **common,
                export=export,
                verdict=worst(finding.verdict for finding in held.undeclared),
                declared=len(held.declared),
                seconds=max(outcome.seconds for outcome in outcomes),
                compared=sum(outcome.compared for outcome in outcomes),
                peak_gpu_bytes=max(outcome.peak_gpu_bytes for outcome in outcomes),
                tensors=findings,
                stale=[f"{tensor}: {reason}" for tensor, reason in held.stale],
            )
        )
    return records


def report_of(
    records: Sequence[Record],
    *,
    device: Device,
    import_seconds: float,
    seconds: float,
    not_run: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the JSON report of a run; `docs/report.md` describes it."""
    return {
        "schema": SCHEMA,
        "kit": kit_release(),
        "device": device,
        "import_seconds": round(import_seconds, 3),
        "seconds": round(seconds, 3),
        "passed": bool(records) and all(record.passed for record in records),
        "not_run": list(not_run),
        "records": [_plain(record) for record in records],
    }


def _plain(record: Record) -> dict[str, Any]:
    plain = asdict(record) | {"passed": record.passed}
    plain["seconds"], plain["case_seconds"] = round(record.seconds, 3), round(record.case_seconds, 3)
    return plain


def merge(outcomes: Iterable[Outcome], *, by_rank: bool) -> list[Finding]:
    """Merge the ranks' findings; every rank has parameters of its own, but exports the same tensors."""
    findings: dict[tuple[int, int, str], Finding] = {}
    for rank, outcome in enumerate(outcomes):
        for found in outcome.findings:
            found = replace(found, rank=rank) if by_rank else found
            known = findings.setdefault(found.order, found)
            if found.verdict.severity > known.verdict.severity:
                findings[found.order] = found
    return [findings[order] for order in sorted(findings)]

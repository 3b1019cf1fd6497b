"""Judges a case: a record for each of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mtp_regression.comparison.verdicts import Finding, Verdict, worst
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.roundtrip.declared import DeclaredException, Sorted, sort_findings
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.stages.case import CHECKS, About, Case, Outcome, Stage
from mtp_regression.stages.loaded import tensors_of_case


def judge(case: Case, evidence: Evidence, declared: Sequence[DeclaredException]) -> list[Record]:
    """Make a case's records, one for each stage that the evidence speaks of.

    Args:
        case: The case.
        evidence: What its ranks left.
        declared: All failures that are declared of the bridge, whether they apply or not.
    """
    about = evidence.about or About(case.adapter, "?", "?")
    source = tensors_of_case(case)
    loaded = evidence.outcomes.get(Stage.LOAD)
    common: dict[str, Any] = {
        "bridge": f"{about.bridge} {about.release}".strip(),
        "engine": about.engine,
        "checkpoint": case.name,
        "parallel": str(case.parallel),
        "ranks": case.parallel.ranks,
        "case_seconds": evidence.seconds,
        "case_steps": {name: round(took, 3) for name, took in evidence.steps.items()},
        "load_seconds": round(max((outcome.seconds for outcome in loaded or ()), default=0.0), 3),
        "warnings": sorted({warning for outcome in loaded or () for warning in outcome.warnings}),
        "logs": [str(path) for path in evidence.logs],
    }
    records = []
    for stage in CHECKS:
        applying = [
            entry for entry in declared if entry.applies(check=case.check(stage), release=about.release)
        ]
        if crash := evidence.crashes.get(stage):
            fields = _of_crash(case, crash, stage, applying)
            records.append(Record(**common, stage=stage, check=case.check(stage), **fields))
        elif outcomes := evidence.outcomes.get(stage):
            findings = merge(outcomes)
            held = sort_findings(findings, source, applying)
            records.append(
                Record(
                    **common,
                    stage=stage,
                    check=case.check(stage),
                    verdict=worst(finding.verdict for finding in held.undeclared),
                    declared=len(held.declared),
                    seconds=max(outcome.seconds for outcome in outcomes),
                    compared=sum(outcome.compared for outcome in outcomes),
                    peak_gpu_bytes=max(outcome.peak_gpu_bytes for outcome in outcomes),
                    agreement=_largest(outcome.agreement for outcome in outcomes),
                    tensors=_marked(held),
                    stale=[f"{tensor}: {reason}" for tensor, reason in held.stale],
                )
            )
    return records


def _marked(held: Sorted) -> list[Finding]:
    declared = [replace(finding, declared=True) for finding in held.declared]
    return sorted([*held.undeclared, *declared], key=lambda finding: finding.order)


def _of_crash(
    case: Case, crash: Crash, stage: Stage, declared: Sequence[DeclaredException]
) -> dict[str, Any]:
    """Return what a stage's record says that did not end."""
    fields: dict[str, Any] = {"verdict": crash.verdict, "declared": 0, "seconds": 0.0, "crash": crash}
    if stage is Stage.REFUSED and crash.stage is Stage.LOAD and crash.kind == "raised":
        if any(word in crash.message for word in case.wrong):
            return fields | {"verdict": Verdict.EXACT, "compared": 1} | _stale(declared)
        said = Finding("the error", Verdict.WRONG, f"names none of {', '.join(case.wrong[:3])}")
        fields |= {"verdict": Verdict.WRONG, "tensors": [said]}
    if any(entry.allows(fields["verdict"]) and not entry.tensor for entry in declared):
        fields |= {"verdict": Verdict.EXACT, "declared": 1}
    return fields


def _stale(declared: Sequence[DeclaredException]) -> dict[str, Any]:
    return {"stale": [f"any: {entry.reason}" for entry in declared if entry.strict]}


def _largest(measured: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest figure of all ranks, by name."""
    largest: dict[str, float] = {}
    for name, figure in (pair for of_a_rank in measured for pair in of_a_rank.items()):
        largest[name] = max(figure, largest.get(name, 0.0))
    return largest


def merge(outcomes: Iterable[Outcome]) -> list[Finding]:
    """Merge the ranks' findings: those on parameters are a rank's own, those on an export are all ranks'."""
    findings: dict[tuple[int, int, str], Finding] = {}
    for found in (finding for outcome in outcomes for finding in outcome.findings):
        known = findings.setdefault(found.order, found)
        if found.verdict.severity > known.verdict.severity:
            findings[found.order] = found
    return [findings[order] for order in sorted(findings)]

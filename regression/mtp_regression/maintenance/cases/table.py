"""Runs every scenario on the installed release, as it is and patched, and compares with what is known.

    python -m mtp_regression.maintenance cases [--update] [--each-outcome] [TEXT]...

What is known of a release is in `known/RELEASE.json`: for each scenario what became of it, and why.
A difference is an error in both directions, so that a release that mends a failure is noticed; it names the
findings (`docs/findings.md`) that the scenario shows. `--update` writes the file anew. `--each-outcome` is
for releases that are not run whole: of each outcome that is known there is a scenario that shows it.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from mtp_regression.adapters import DECLARED_OF_MEGATRON_BRIDGE, MEGATRON_BRIDGE
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.maintenance.known import PATCHED, UPSTREAM, conclude, known_of, known_of_one
from mtp_regression.ranks.run import warm
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.roundtrip.declared import read_declared
from mtp_regression.roundtrip.judge import judge
from mtp_regression.roundtrip.launch import StartedRanks
from mtp_regression.roundtrip.plan import Planned
from mtp_regression.roundtrip.side_by_side import run_side_by_side
from mtp_regression.scenarios.scenario import Scenario
from mtp_regression.scenarios.table import SCENARIOS
from mtp_regression.stages.case import Case, Stage

KNOWN = Path(__file__).with_name("known")
_MEGATRON_CHECKPOINTS = "megatron.bridge.training.model_load_save"
"""What the bridge imports to save and to load these, 3 s of each rank if the fork server does not have it."""

_FINDINGS = {scenario.name: scenario.findings for scenario in SCENARIOS}

Row = dict[str, dict[str, str]]
"""For UPSTREAM and for PATCHED the outcome and its cause."""


def choose(words: Sequence[str]) -> list[Scenario]:
    """Return the scenarios that have all of some words in their names."""
    return [scenario for scenario in SCENARIOS if all(word in scenario.name for word in words)]


def each_outcome(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Return the first scenario of each pair of outcomes that is known of the installed release.

    Args:
        scenarios: What to choose from; of those that are not known all are returned.

    Raises:
        FileNotFoundError: Nothing is known of the release.
    """
    known = known_of_one(KNOWN, metadata.version("megatron-bridge"))
    first: dict[object, Scenario] = {}
    for scenario in scenarios:
        row = known.get(scenario.name)
        outcomes = tuple(row[column]["outcome"] for column in (UPSTREAM, PATCHED)) if row else scenario.name
        first.setdefault(outcomes, scenario)
    return [*first.values()]


def main(scenarios: Sequence[Scenario], *, update: bool) -> int:
    """Run scenarios, compare, and update what is known if asked to.

    Returns:
        0 if all is as known and, patched, exact or refused; 1 if not.

    Raises:
        ValueError: No scenario is given: that would show nothing.
    """
    if not scenarios:
        raise ValueError("no scenario to run")
    release = metadata.version("megatron-bridge")
    rows = dict(_run([one for one in scenarios if Stage.RESHARDED not in one.stages]))
    if resharded := [one for one in scenarios if Stage.RESHARDED in one.stages]:
        warm([MEGATRON_BRIDGE.partition(":")[0], _MEGATRON_CHECKPOINTS])
        rows |= _run(resharded)
    known = known_of(KNOWN, release, rows, (scenario.name for scenario in SCENARIOS), update=update)
    wanted = {scenario.name: scenario.wanted(release) for scenario in scenarios}
    problems = [*_differences(known, rows), *_not_exact(rows, wanted)]
    return conclude(f"{len(rows)} scenarios on {release}", problems)


def _run(scenarios: Sequence[Scenario]) -> Iterator[tuple[str, Row]]:
    """Run scenarios, some at a time; yields the name and the row of each."""
    launch = StartedRanks(time_limit=60)
    declared = read_declared(DECLARED_OF_MEGATRON_BRIDGE)
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="mtp-cases-") as scratch:
        rows = (_planned(one, Path(scratch), number) for number, one in enumerate(scenarios))
        planned = list(chain.from_iterable(rows))
        evidence = run_side_by_side(launch, Path(scratch, "logs"), planned)
        found = (judge(case, one, declared) for (case, _), one in zip(planned, evidence, strict=True))
        for scenario in scenarios:
            row = {column: outcome(next(found)) for column in (UPSTREAM, PATCHED)}
            console.print(f"{scenario.name}: {row[UPSTREAM]['outcome']}; patched {row[PATCHED]['outcome']}")
            yield scenario.name, row


def _planned(scenario: Scenario, scratch: Path, number: int) -> Iterator[Planned]:
    """Write a scenario's checkpoint; yields its case with the release as it is, and patched."""
    checkpoint = scenario.write(scratch / str(number))
    for column in (UPSTREAM, PATCHED):
        adapter = scenario.use.adapter(patched=column == PATCHED)
        yield Case(adapter, checkpoint, scenario.parallel, f"{number}-{column}"), scenario.stages


def outcome(found: Sequence[Record]) -> dict[str, str]:
    """Say what became of a case, in a few words, and why.

    Args:
        found: Its records: native, stream, saved.

    Returns:
        "outcome": one verdict for all exports, or one each. "cause": the error, or how many tensors have
        which verdict, and the number of warnings.
    """
    verdicts = [str(record.verdict) for record in found]
    text = verdicts[0] if len(set(verdicts)) == 1 else " / ".join(verdicts)
    declared = max(record.declared for record in found)
    if declared:
        text += f", {declared} declared"
    causes = list(dict.fromkeys(_cause(record.crash) for record in found if record.crash))
    for record in found:
        counts = Counter(str(finding.verdict) for finding in record.tensors)
        if counts and record.verdict is not Verdict.EXACT:
            causes.append(f"{record.stage}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    if found[0].warnings and text != Verdict.EXACT:
        causes.append(f"{len(found[0].warnings)} warnings")
    return {"outcome": text, "cause": "; ".join(causes)}


def _cause(crash: Crash) -> str:
    """Name a crash's exception, or how the rank ended, without what differs from run to run."""
    message = re.sub(r"/\S*/mtp-\S+", "CHECKPOINT", crash.message.partition("\n")[0])
    return f"{crash.exception.rpartition('.')[2]}: {message[:160]}" if crash.exception else message


def _differences(known: dict[str, Any], rows: dict[str, Row]) -> Iterator[str]:
    for name, row in rows.items():
        if known.get(name) != row:
            findings = ", ".join(map(str, _FINDINGS[name])) or "none"
            yield f"{name} (findings: {findings}): known as {known.get(name)}, and is {row}"


def _not_exact(rows: dict[str, Row], wanted: Mapping[str, Verdict]) -> Iterator[str]:
    """Say where the patched bridge is not exact, or does not refuse a fault."""
    for name, row in rows.items():
        if row[PATCHED]["outcome"] != wanted[name]:
            yield f"{name}, patched: {row[PATCHED]['outcome']}, not {wanted[name]}: {row[PATCHED]['cause']}"

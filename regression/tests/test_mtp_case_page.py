"""The page of scenarios is what is known, and what is known is what the patch promises."""

import json
import re
from pathlib import Path

import pytest

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_regression.adapters import DECLARED_OF_MEGATRON_BRIDGE
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.findings.finding import MEGATRON_BRIDGE, read_findings
from mtp_regression.maintenance.cases.page import page
from mtp_regression.maintenance.cases.table import KNOWN, outcome
from mtp_regression.maintenance.known import OTHERS, PATCHED, RELEASES, UPSTREAM
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.roundtrip.declared import read_declared
from mtp_regression.scenarios.table import SCENARIOS
from mtp_regression.stages.case import Stage

PAGE = Path(__file__).parents[2] / "docs" / "cases.md"


def record(export: str, verdict: Verdict, *tensors: Finding, crash: Crash | None = None) -> Record:
    return Record(
        *("bridge 1", "engine", "x", "tp1", 1, export, f"x-tp1::{export}", verdict, 0, 0.0, 0.0),
        tensors=[*tensors],
        crash=crash,
    )


def test_page_is_what_is_known() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_release_that_is_patched_is_known() -> None:
    assert sorted((*RELEASES, *OTHERS)) == list(ENVIRONMENTS)


@pytest.mark.parametrize("release", ENVIRONMENTS)
def test_patched_release_carries_or_refuses_every_scenario(release: str) -> None:
    known = json.loads((KNOWN / f"{release}.json").read_text(encoding="utf-8"))
    assert list(known) == [scenario.name for scenario in SCENARIOS]
    for scenario in SCENARIOS:
        assert known[scenario.name][PATCHED]["outcome"] == scenario.wanted(release), scenario.name


OURS = [finding for finding in read_findings() if finding.bridge == MEGATRON_BRIDGE]


def test_each_finding_is_shown_by_a_scenario_or_declared() -> None:
    shown = {number for scenario in SCENARIOS for number in scenario.findings}
    for exception in read_declared(DECLARED_OF_MEGATRON_BRIDGE):
        shown.update(map(int, re.findall(r"finding (\d+)", exception.reason)))
    assert sorted(shown) == [finding.number for finding in OURS if not finding.shown_by]


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_not_exact_upstream_has_a_finding_and_what_is_has_none(release: str) -> None:
    known = json.loads((KNOWN / f"{release}.json").read_text(encoding="utf-8"))
    findings = {finding.number for finding in OURS if release in finding.releases}
    for scenario in SCENARIOS:
        explained = not findings.isdisjoint(scenario.findings)
        assert (known[scenario.name][UPSTREAM]["outcome"] != "exact") == explained, scenario.name


@pytest.mark.parametrize(
    ("exception", "message", "refused", "cell"),
    [
        (
            "mtp_checkpoint.errors.LayoutError",
            "/tmp/mtp-cases-1/3 is inconsistent:\n  both layouts",
            True,
            {"outcome": "refused", "cause": "LayoutError: CHECKPOINT is inconsistent:"},
        ),
        ("KeyError", "'x'", False, {"outcome": "crash-import", "cause": "KeyError: 'x'"}),
        (
            "",
            "rank 0 of 2 died of SIGSEGV",
            False,
            {"outcome": "crash-import", "cause": "rank 0 of 2 died of SIGSEGV"},
        ),
    ],
)
def test_crash_of_the_load_is_told_once(
    exception: str, message: str, refused: bool, cell: dict[str, str]
) -> None:
    crash = Crash(Stage.LOAD, 0, "raised", exception, message, refused, text="\n  OtherError: of a log\n")
    assert outcome([record(name, crash.verdict, crash=crash) for name in ("native", "stream")]) == cell


def test_each_export_has_its_verdict_and_its_count() -> None:
    lost = (Finding("a", Verdict.FLIP, ""), Finding("b", Verdict.FLIP, ""))
    cell = outcome([record("native", Verdict.EXACT), record("stream", Verdict.FLIP, *lost)])
    assert cell == {"outcome": "exact / flip", "cause": "stream: 2 flip"}


def test_rank_that_hangs_is_the_cause() -> None:
    late = Crash(Stage.NATIVE, 0, "timeout", "", "rank 0 of 2 is late", refused=False, text="stack")
    cell = outcome([record("native", late.verdict, crash=late)])
    assert cell == {"outcome": "crash-export", "cause": "rank 0 of 2 is late"}

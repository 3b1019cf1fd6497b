"""The page of scenarios is what is known, and what is known is what the patch promises."""

import json
from pathlib import Path

import pytest

from mtp_regression.case_page import RELEASES, page
from mtp_regression.case_table import KNOWN, PATCHED, REFUSED, outcome
from mtp_regression.compare import Finding, Verdict
from mtp_regression.records import Record
from mtp_regression.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "cases.md"


def record(export: str, verdict: Verdict, *, error: str = "", tensors: tuple[Finding, ...] = ()) -> Record:
    return Record(
        "bridge 1", "engine", "x", "tp1", 1, export, verdict, 0, 0.0, 0.0, tensors=tensors, error=error
    )


def test_page_is_what_is_known() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("release", RELEASES)
def test_patched_release_carries_or_refuses_every_scenario(release: str) -> None:
    known = json.loads((KNOWN / f"{release}.json").read_text(encoding="utf-8"))
    assert list(known) == [scenario.name for scenario in SCENARIOS]
    for scenario in SCENARIOS:
        wanted = REFUSED if scenario.fault else "exact"
        assert known[scenario.name][PATCHED]["outcome"] == wanted, scenario.name


def test_own_error_is_a_refusal_and_upstreams_a_crash() -> None:
    for error, wanted in (
        ("  mtp_bridge_patch.report.LayoutError: x is inconsistent:", REFUSED),
        ("  AttributeError: 'NoneType' object", "crash-import"),
    ):
        cell = outcome([record(name, Verdict.CRASH_IMPORT, error=error) for name in ("native", "stream")])
        assert cell["outcome"] == wanted


def test_each_export_has_its_verdict_and_its_count() -> None:
    lost = (Finding("a", Verdict.FLIP, ""), Finding("b", Verdict.FLIP, ""))
    cell = outcome([record("native", Verdict.EXACT), record("stream", Verdict.FLIP, tensors=lost)])
    assert cell == {"outcome": "exact / flip", "cause": "stream: 2 flip"}


def test_rank_that_hangs_is_the_cause() -> None:
    cell = outcome([record("native", Verdict.CRASH_EXPORT, error="rank 0 of 2 is late\n\nstack")])
    assert cell["cause"] == "rank 0 of 2 is late"

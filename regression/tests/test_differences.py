"""A report held against an earlier one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.devices import Device
from mtp_regression.reporting.differences import compare_reports
from mtp_regression.reporting.document import read_report, report_of
from mtp_regression.reporting.record import Record
from mtp_regression.stages.case import Stage

from .test_terminal import EXACT

CELL = [replace(EXACT, stage=stage) for stage in (Stage.NATIVE, Stage.STREAM, Stage.SAVED)]
WRONG = [Finding("mtp.norm.weight", Verdict.WRONG, "1 of 8")]


def differences(*records: Record, device: Device = Device.CUDA, earlier: Path) -> list[str]:
    return list(
        compare_reports(report_of(records, device=device, import_seconds=0, seconds=1), read_report(earlier))
    )


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The report of one cell, written and read back as a run's is."""
    path = tmp_path / "roundtrip.json"
    path.write_text(json.dumps(report_of(CELL, device=Device.CPU, import_seconds=0, seconds=1)))
    return path


def test_times_and_engines_may_differ(earlier: Path) -> None:
    faster = [
        replace(record, seconds=0.1, case_seconds=0.2, engine="TransformerEngine 2.10") for record in CELL
    ]
    assert differences(*faster, earlier=earlier) == []
    assert differences(*faster[1:], earlier=earlier) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"verdict": Verdict.WRONG}, "first, tp1, stream: verdict wrong, there exact"),
        ({"declared": 6}, "first, tp1, stream: declared 6, there 0"),
        ({"compared": 2}, "first, tp1, stream: compared 2, there 3"),
        ({"tensors": WRONG}, "first, tp1, stream: tensors 1 entries, there 0 entries"),
        ({"stale": ["x: y"]}, "first, tp1, stream: stale 1 entries, there 0 entries"),
        ({"parallel": "ep8"}, "first, ep8, stream: not there"),
    ],
)
def test_any_other_verdict_is_a_difference(earlier: Path, change: dict[str, Any], told: str) -> None:
    assert differences(CELL[0], replace(CELL[1], **change), CELL[2], earlier=earlier) == [told]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no report of a round trip"),
        ("", "is no report of a round trip"),
        ("[]", "is no report of a round trip"),
        ("{}", "is no report of a round trip"),
        ('{"schema": 9, "records": []}', "is a report of schema 9, and not 5: run it anew"),
        ('{"schema": 5, "records": 1}', "is a report of schema 5, and not 5: run it anew"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"other\.json {message}"):
        read_report(path)

"""The main job over a part of its grid; `nox -s roundtrip` runs all of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.reporting.record import Crash
from mtp_regression.stages.case import ONE_LAYOUT, Stage

from .conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]

LAYOUTS = ("tp2 ep2", "pp2 vpp2")


@pytest.fixture(scope="module")
def report(main_job: Job) -> dict[str, Any]:
    """The job without checkpoints: it makes its own."""
    exit_code, report = main_job(*(word for layout in LAYOUTS for word in ("--parallel", layout)))
    assert (exit_code, report["passed"]) == (0, True), json.dumps(report["records"], indent=1)
    return report


def test_verdict_table(report: dict[str, Any], snapshot: SnapshotAssertion) -> None:
    columns = ("checkpoint", "parallel", "ranks", "stage", "compared", "verdict", "declared")
    assert [" | ".join(str(record[column]) for column in columns) for record in report["records"]] == snapshot


def test_every_stage_is_taken_in_every_cell(report: dict[str, Any]) -> None:
    cells = {(record["checkpoint"], record["parallel"]) for record in report["records"]}
    assert cells == {(name, layout) for name in ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b") for layout in LAYOUTS}
    for cell in cells:
        records = [
            record for record in report["records"] if (record["checkpoint"], record["parallel"]) == cell
        ]
        assert [record["stage"] for record in records] == list(ONE_LAYOUT)


def test_no_exception_touches_an_mtp_tensor(report: dict[str, Any]) -> None:
    compared = [record for record in report["records"] if record["stage"] != "files"]
    excepted = [found["tensor"] for record in compared for found in record["tensors"]]
    assert len(excepted) == 6 * 4 * len(LAYOUTS), "the F32 pair of three layers, in four stages of exports"
    assert all("linear_attn" in tensor for tensor in excepted)


def test_report_says_what_ran(report: dict[str, Any]) -> None:
    assert report["device"] == "cpu"
    for record in report["records"]:
        assert record["bridge"].startswith("megatron-bridge 0.")
        assert record["engine"] == "TransformerEngine stand-in"
        assert len(record["logs"]) == record["ranks"]


def test_every_field_is_documented(report: dict[str, Any]) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    findings = [found for record in report["records"] for found in record["tensors"]]
    crash = asdict(Crash(Stage.LOAD, 0, "raised", "KeyError", "'x'", refused=False, text=""))
    for fields in (report, report["records"][0], findings[0], crash):
        for name in fields:
            assert f"`{name}`" in documented, name


def test_json_is_the_report_and_nothing_else(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["roundtrip", str(checkpoints["qwen3.6-35b-a3b"]), "--parallel", "tp1", "--report", str(report)]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == json.loads(report.read_text())
    assert "1 of 1 cells exact" in result.stderr


def test_values_that_must_round_are_declared(checkpoints: dict[str, Path], main_job: Job) -> None:
    """`w - 1` in BF16 loses bits here; the exception says so, and is wanted for exactly these tensors."""
    exit_code, report = main_job(checkpoints["qwen3.6-35b-a3b-rounding"], "--parallel", "tp1", *EXPORTS)
    assert exit_code == 0
    assert [(record["stage"], record["verdict"], record["declared"]) for record in report["records"]] == [
        ("native", "exact", 0),
        ("stream", "exact", 3),
        ("saved", "exact", 3),
    ]
    for found in report["records"][1]["tensors"]:
        assert found["tensor"].endswith("linear_attn.norm.weight")
        assert found["verdict"] == "wrong"
        assert "0x" in found["detail"]


def test_checkpoints_of_one_name_are_two_cells(
    checkpoints: dict[str, Path], main_job: Job, tmp_path: Path
) -> None:
    folders = [tmp_path / part / "out" for part in ("a", "b")]
    for folder, name in zip(folders, ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b"), strict=True):
        shutil.copytree(checkpoints[name], folder)
    exit_code, report = main_job(*folders, "--parallel", "tp1", *EXPORTS)
    assert exit_code == 0
    assert [record["checkpoint"] for record in report["records"]] == ["a/out"] * 3 + ["b/out"] * 3
    logs = {log for record in report["records"] for log in record["logs"]}
    assert len(logs) == 2
    assert all(Path(log).exists() for log in logs)

"""What a stage finds beside values, and to which stage and rank an error belongs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.comparison.tensors import read_folder

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]

Q36 = "qwen3.6-35b-a3b"
Q35 = "qwen3.5-35b-a3b"


@pytest.fixture
def sabotaged(checkpoints: dict[str, Path], main_job: Job) -> Callable[..., dict[str, dict[str, Any]]]:
    """The records of a saboteur by stage."""

    def run(saboteur: str, parallel: str, *words: str) -> dict[str, dict[str, Any]]:
        options = ("--adapter", f"stage_saboteurs:{saboteur}", "--parallel", parallel, *words)
        exit_code, report = main_job(checkpoints[Q36], *options)
        assert (exit_code, report["passed"]) == (1, False)
        return {record["stage"]: record for record in report["records"]}

    return run


Sabotaged = Callable[..., dict[str, dict[str, Any]]]


def failed(records: dict[str, dict[str, Any]]) -> set[str]:
    return {stage for stage, record in records.items() if not record["passed"]}


def test_buffer_that_is_yielded_again_is_named(sabotaged: Sabotaged) -> None:
    records = sabotaged("ReusesOneBuffer", "tp1", "--stage", "native", "--stage", "stream")
    assert failed(records) == {"stream"}
    details = {found["detail"] for found in records["stream"]["tensors"] if "A_log" not in found["tensor"]}
    assert details == {"changed after it was yielded"}


def test_export_that_destroys_the_model_is_named_and_costs_no_other_stage(sabotaged: Sabotaged) -> None:
    records = sabotaged("DestroysTheModel", "ep2")
    assert failed(records) == {"stream"}
    [one, other] = [
        found for found in records["stream"]["tensors"] if found["tensor"].startswith("mtp.layers")
    ]
    assert (one["rank"], other["rank"]) == (0, 1)
    assert one["detail"] == "the export has changed this parameter"


def test_rank_that_yields_in_another_order_is_named(sabotaged: Sabotaged) -> None:
    records = sabotaged("OtherOrder", "ep2")
    assert failed(records) == {"stream"}
    [found] = [found for found in records["stream"]["tensors"] if found["verdict"] == "unexpected"]
    assert found["detail"].startswith("number 3 of rank 1's stream, where rank 0 yields ")


def test_export_that_hangs_when_it_is_left_ends_at_the_time_limit(sabotaged: Sabotaged) -> None:
    records = sabotaged("HangsWhenLeft", "ep2", "--stage", "stream", "--time-limit", "20")
    assert failed(records) == {"stream"}
    assert records["stream"]["crash"]["kind"] == "timeout"


def test_error_belongs_to_the_stage_that_raised_it_whatever_slower_ranks_do(sabotaged: Sabotaged) -> None:
    records = sabotaged("RaisesLate", "ep2", *("--stage", "native", "--stage", "stream", "--stage", "saved"))
    assert failed(records) == {"stream"}
    crash = records["stream"]["crash"]
    assert (crash["stage"], crash["rank"], crash["exception"]) == ("stream", 0, "saboteurs.TooOldError")
    logs = records["native"]["logs"]
    assert [Path(log).parent.name for log in logs] == ["again1", "again1", "ep2", "ep2"]
    assert all(Path(log).exists() for log in logs)
    assert "no stream" in Path(logs[2]).read_text()


def test_error_after_the_last_stage_is_no_success(sabotaged: Sabotaged) -> None:
    records = sabotaged("DiesInClose", "tp1", "--stage", "native")
    assert failed(records) == {"native"}
    assert records["native"]["crash"]["message"] == "cannot close"


def test_mtp_that_is_copied_from_the_checkpoint_is_named(
    sabotaged: Sabotaged, checkpoints: dict[str, Path]
) -> None:
    records = sabotaged("PassesMtpThrough", "tp1")
    assert failed(records) == {"retrained", "reloaded"}
    found = records["retrained"]["tensors"]
    assert {tensor["origin"] for tensor in found} == {
        "as in the checkpoint that was loaded, whatever the model holds"
    }
    mtp = {name for name in read_folder(checkpoints[Q36]) if name.startswith("mtp.")}
    assert {tensor["tensor"] for tensor in found} == mtp


def test_what_a_second_load_leaves_of_the_first_is_named(
    sabotaged: Sabotaged, checkpoints: dict[str, Path]
) -> None:
    records = sabotaged("RemembersTheFirst", "ep2")
    assert failed(records) == {"reloaded"}
    named = {found["tensor"] for found in records["reloaded"]["tensors"]}
    assert named == {name for name in read_folder(checkpoints[Q36]) if "mtp" in name and "norm" in name}


def test_without_an_oracle_the_sign_bit_shows_what_is_passed_through(sabotaged: Sabotaged) -> None:
    records = sabotaged("PassesThroughWithoutOracle", "tp1")
    assert list(records) == ["stream", "saved", "files", "forward", "retrained"]
    assert failed(records) == {"retrained"}
    named = {found["tensor"] for found in records["retrained"]["tensors"]}
    assert "mtp.fc.weight" in named
    assert "mtp.norm.weight" not in named, "a vector, which keeps its sign"


def test_model_without_an_oracle_passes_what_runs(checkpoints: dict[str, Path], main_job: Job) -> None:
    options = ("--adapter", "stage_saboteurs:NoOracle", "--parallel", "tp2 ep2")
    exit_code, report = main_job(*(checkpoints[Q35], checkpoints[Q36]), *options)
    assert exit_code == 0
    assert report["stages_not_run"] == {
        "native": "stage_saboteurs:NoOracle has no coordinates",
        "reloaded": "stage_saboteurs:NoOracle has no reload",
    }
    assert {record["stage"] for record in report["records"]} == {
        "stream",
        "saved",
        "files",
        "forward",
        "retrained",
    }

"""The check for a GPU that is lent for minutes: the same steps on the CPU, and each step's guard."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from mtp_fixtures import Scale
from mtp_regression.maintenance.gpu_check import steps
from mtp_regression.maintenance.gpu_check.pack import unpack
from mtp_regression.maintenance.gpu_check.steps import Check, StepError
from mtp_regression.maintenance.gpu_check.table import cell_table

from .test_terminal import EXACT

STEPS = ["doctor", "one-rank", "shared-gpu", "cpu", "device-export", "real-size", "generated"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """A check on the CPU, none of its steps taken."""
    return Check(tmp_path, tmp_path, on_gpu=False, scale=Scale.TINY)


def record(**fields: Any) -> dict[str, Any]:
    return asdict(EXACT) | {"checkpoint": "q36"} | fields


def test_all_steps_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mtp_regression.maintenance", "gpu-check", str(tmp_path), "--cpu"]
    done = subprocess.run([*command, "--minutes", "20"], capture_output=True, text=True, check=False)
    known = json.loads((tmp_path / "gpu_check.json").read_text())
    assert done.returncode == 0, known["steps"]
    assert [(step["name"], step["passed"]) for step in known["steps"]] == [(name, True) for name in STEPS]
    cells = {
        step: len({(record["checkpoint"], record["parallel"]) for record in report["records"]})
        for step, report in known["reports"].items()
    }
    made = {"device-export": 2, "real-size": 1, "generated": 1}
    assert cells == {"one-rank": 2, "shared-gpu": 2, "cpu": 4} | made
    table = done.stdout[done.stdout.index("what came of it") :].splitlines()
    assert len(table) <= 40
    assert table[-1].startswith("7 of 7 steps ok")
    slices = {step: known["reports"][step]["records"][0]["checkpoint"] for step in ("real-size", "generated")}
    assert slices == {"real-size": "slice-per-expert", "generated": "qwen3.6-35b-a3b"}


def test_one_step_alone(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEPS", dict.fromkeys(STEPS, lambda _: "taken"))
    assert [result.name for result in check.run(["cpu", "one-rank"])] == ["one-rank", "cpu"]
    command = [sys.executable, "-m", "mtp_regression.maintenance", "gpu-check", "--step", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'gpu' is none of doctor, one-rank" in done.stderr


def test_nothing_goes_on_when_the_check_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mtp_regression.maintenance", "gpu-check", str(tmp_path), "--cpu"]
    running = subprocess.Popen([*command, "--step", "one-rank"], stdout=subprocess.DEVNULL)
    started: list[psutil.Process] = []
    while len(started) < 2:  # the command of the step, and what it has started
        assert running.poll() is None
        started = psutil.Process(running.pid).children(recursive=True)
    running.terminate()
    assert running.wait() == 128 + signal.SIGTERM
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_a_failed_step_does_not_cost_the_others(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> Callable[[Check], str]:
        def step(_: Check) -> str:
            raise error

        return step

    ways = {
        "said": fails(StepError("exit code 1")),
        "unforeseen": fails(KeyError("GPUs")),
        "well": lambda _: "4 cells",
    }
    monkeypatch.setattr(steps, "STEPS", ways)
    results = list(check.run())
    assert [(result.name, result.passed, result.note) for result in results] == [
        ("said", False, "exit code 1"),
        ("unforeseen", False, "KeyError: 'GPUs'"),
        ("well", True, "4 cells"),
    ]
    assert "KeyError" in (check.folder / "unforeseen.error").read_text()


def test_what_the_time_does_not_suffice_for_is_not_run_and_not_passed(check: Check) -> None:
    check.seconds = 1
    assert [(result.passed, result.note) for result in check.run()] == [(False, "not run: 1 s are over")] * 7


def test_a_step_that_hangs_is_ended(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEPS", {"doctor": Check.doctor})
    monkeypatch.setattr(steps, "_LEAST_SECONDS", 0)
    check.seconds = 0.05
    (result,) = check.run()
    assert not result.passed
    assert "did not end in the 0 s that were left; see doctor.log" in result.note


@pytest.mark.parametrize(
    ("on_gpu", "on_cpu", "told"),
    [
        ([record(verdict="wrong")], [record()], "1 of 1 records are not as on the CPU: q36, tp1, native"),
        ([], [record()], "0 of 0 records are not as on the CPU: no cell ran on a GPU"),
    ],
)
def test_another_verdict_than_on_the_cpu_fails_the_step(
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
    on_gpu: list[dict[str, Any]],
    on_cpu: list[dict[str, Any]],
    told: str,
) -> None:
    monkeypatch.setattr(Check, "_roundtrip", lambda *_args, **_options: "")
    check.reports = {"one-rank": {"records": on_gpu}, "cpu": {"records": on_cpu}}
    with pytest.raises(StepError, match=told):
        check.cpu()


def test_a_machine_without_a_gpu_fails_the_first_step(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{"name": "import of the bridge", "found": "9 s"}, {"name": "GPUs", "found": ""}]
    monkeypatch.setattr(Check, "_mtpkit", lambda *_: json.dumps(found))
    assert check.doctor() == "no GPU; import of the bridge 9 s"
    check.on_gpu = True
    with pytest.raises(StepError, match="there is no GPU"):
        check.doctor()


def test_the_table_tells_what_failed_and_where_the_memory_peaked() -> None:
    times = {"load_seconds": 1.5, "seconds": 0.25, "case_seconds": 3.0, "peak_gpu_bytes": 3 * 2**20}
    cases = [
        record(**times, stage=stage, passed=stage != "saved", verdict="wrong")
        for stage in ("native", "stream", "saved")
    ]
    console = Console(width=150, file=io.StringIO())
    with console.capture() as shown:
        console.print(cell_table({"one-rank": {"records": cases}}))
    row = shown.get().splitlines()[1]
    assert " ".join(row.split()) == "q36 tp1 one-rank saved wrong 1.50 0.25 0.25 0.25 - - - - 3.0 3 MiB"


def test_wheels_that_are_not_there_are_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no wheels; make them with --pack"):
        unpack(tmp_path, tmp_path / "packages")

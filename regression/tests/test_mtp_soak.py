"""The soak: what is drawn, what a failure should come to, and that a wrong verdict is found."""

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from multiprocessing import shared_memory
from pathlib import Path
from subprocess import PIPE

import pytest

from mtp_regression.maintenance.soak import killed, left, run
from mtp_regression.maintenance.soak.failure import KINDS, USES, Failure
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.scratch import scratch
from mtp_regression.reporting.record import Crash
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.stages.case import Stage

DRAWN = run.Drawn(
    "qwen3.6-35b-a3b",
    Parallel(tp=2),
    (Stage.NATIVE, Stage.STREAM),
    Failure("stream", "raise", 1, 5, patched=True),
)
RAISED = (Stage.STREAM, 1, "raised", "DrawnError", "Patchedstream_raise_1_5")
ENDED = ("ended", 0, 0)


def test_the_same_is_drawn_from_the_same_seed() -> None:
    drawn = [run.Drawn.of(1, number) for number in range(300)]
    assert drawn == [run.Drawn.of(1, number) for number in range(300)]
    assert drawn != [run.Drawn.of(2, number) for number in range(300)]
    assert {one.failure.kind for one in drawn} == set(KINDS)
    assert {one.failure.place for one in drawn} == set(USES)
    assert {one.parallel for one in drawn} == set(run.LAYOUTS)
    for one in drawn:
        assert Failure.parse(str(one.failure)) == one.failure
        assert any(one.failure.crash(stage) for stage in one.stages), "it is in a stage that is taken"


def test_a_name_of_no_failure_is_none() -> None:
    assert Failure.parse("stream_raise_1") is None


@pytest.mark.parametrize(
    ("came", "wrong"),
    [
        ({Stage.NATIVE: ENDED, Stage.STREAM: RAISED}, []),
        ({Stage.NATIVE: ENDED, Stage.STREAM: ENDED}, [Stage.STREAM]),
        ({Stage.NATIVE: RAISED, Stage.STREAM: RAISED}, [Stage.NATIVE]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.STREAM, 0, "raised")}, [Stage.STREAM]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.STREAM, 1, "died")}, [Stage.STREAM]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.LOAD, 1, "raised")}, [Stage.STREAM]),
    ],
)
def test_what_should_not_be_is_named(came: run.Came, wrong: list[Stage]) -> None:
    assert [problem.partition(":")[0] for problem in DRAWN.wrong(came)] == wrong


def test_a_failure_of_the_load_is_one_of_every_stage() -> None:
    failure = replace(DRAWN.failure, place="load", kind="exit")
    assert failure.crash(Stage.FILES) == (Stage.LOAD, 1, "died")


@pytest.mark.megatron
def test_drawn_failure_is_run_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run.Drawn, "of", lambda _seed, _number: DRAWN)
    assert run.main(2, 7) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0: qwen3.6-35b-a3b, tp2, native stream: Patchedstream_raise_1_5: the same twice",
        "seed 7: 1 failures, each twice: 0 problems; memory, a failure: command ? kB, fork server ? kB",
    ]


SCRIPT = """
import tempfile
from multiprocessing import util
from pathlib import Path
from mtp_regression.maintenance.soak import run

with tempfile.TemporaryDirectory() as name, run.own_temporary_files(Path(name, "tmp")):
    util.get_temp_dir()
"""


def test_its_own_folder_is_removed_once() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_what_is_left_behind_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(left, "_PATIENCE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(left.MARK, str(tmp_path))
    watch = left.Watch()
    assert list(watch.left()) == []
    (tmp_path / "ranks-1").mkdir()
    sockets = [socket.socket(), socket.socket()]
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with SharedMemory(create=True, size=1) as memory, subprocess.Popen(command, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = {*watch.left()}
        process.kill()
        memory.unlink()
    for one in sockets:
        one.close()
    assert found >= {
        "left behind: temporary ranks-1",
        "left behind: descriptor of the command: socket, 2 more",
        f"left behind: shared memory {memory.name}",
    }
    assert any(said.startswith(f"left behind: process {process.pid}, ") for said in found)


class SharedMemory(shared_memory.SharedMemory):
    """One that is closed at the end of a `with` block."""

    def __enter__(self) -> "SharedMemory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_file_that_no_other_process_maps_is_not_memory_of_its_own(tmp_path: Path) -> None:
    size = 1 << 26
    (tmp_path / "file").write_bytes(bytes(size))
    before = left.anonymous(os.getpid())
    with (tmp_path / "file").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        assert sum(mapped[place] for place in range(0, size, 4096)) == 0
        assert left.anonymous(os.getpid()) - before < size / 2


def test_memory_that_grows_is_told_from_what_comes_and_goes() -> None:
    assert left.growth([100] * 15) is None
    assert left.growth([10, *[100] * 40]) == 0
    assert left.growth([100, 900] * 20) == 0
    assert left.growth(range(0, 4000, 100)) == 100


def test_growth_of_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.Drawn, "of", lambda _seed, _number: DRAWN)
    monkeypatch.setattr(run, "run_case", lambda *_: None)
    monkeypatch.setattr(run, "came_of", lambda _: {Stage.NATIVE: ENDED, Stage.STREAM: RAISED})
    monkeypatch.setattr(left.Watch, "left", lambda _: [])
    grown = {"command": float(left.STEEPEST)}
    monkeypatch.setattr(left.Watch, "growth", lambda _: grown)
    assert run.main(2, 7) == 0
    grown["command"] += 1
    assert run.main(2, 7) == 1


def test_nothing_is_left_of_a_command_that_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Not below `tmp_path`: a socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="mtp-") as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setenv("MTPKIT_SERVER", "0")
        monkeypatch.setenv(left.MARK, str(tmp_path))
        watch = left.Watch()
        assert list(watch.left()) == []
        killed.start_and_kill(tmp_path / "logs")
        assert any(Path(temporary).iterdir()), "it could remove nothing"
        with scratch("ranks-"):
            pass
        assert list(watch.left()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_rank_that_hangs_is_waited_for_less_long(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []
    monkeypatch.setattr(run.Drawn, "of", lambda *_: replace(DRAWN, failure=replace(DRAWN.failure, kind=kind)))
    monkeypatch.setattr(run, "run_case", lambda _case, launch, *_: limits.append(launch.time_limit))
    monkeypatch.setattr(run, "came_of", lambda _: {Stage.NATIVE: ENDED, Stage.STREAM: RAISED})
    run.main(2, 7)
    assert limits == [30 if kind == "hang" else 90] * 2


@pytest.mark.parametrize("second", [ENDED, (*RAISED[:4], "something else")])
def test_another_verdict_the_second_time_is_a_problem(
    second: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = iter([{Stage.NATIVE: ENDED, Stage.STREAM: RAISED}, {Stage.NATIVE: ENDED, Stage.STREAM: second}])
    monkeypatch.setattr(run.Drawn, "of", lambda _seed, _number: DRAWN)
    crash = Crash(Stage.STREAM, 1, "timeout", "", "it hung", refused=False, text="the stack of rank 1")
    monkeypatch.setattr(run, "run_case", lambda *_: Evidence(crashes={Stage.STREAM: crash}))
    monkeypatch.setattr(run, "came_of", lambda _: next(results))
    assert run.main(2, 7) == 1
    out = capsys.readouterr().out
    assert "once " in out
    assert out.count("the stack of rank 1") == 2

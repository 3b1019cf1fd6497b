"""Cases that run at the same time: as many as there are cores for, told in order, and ended together."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import alive, hear_ctrl_c, logged_pids

from mtp_regression.ranks.parallel import Parallel
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.roundtrip.plan import Planned
from mtp_regression.roundtrip.room import free_cores
from mtp_regression.roundtrip.side_by_side import side_by_side
from mtp_regression.stages.case import Case, Stage

LONG = 20.0


def planned(*ranks: int) -> list[Planned]:
    """Make cases of so many ranks each, named by their numbers."""
    return [
        (Case("any", Path("any"), Parallel(tp=size), str(number)), (Stage.STREAM,))
        for number, size in enumerate(ranks)
    ]


class Watched:
    """Runs cases that end when they are let go; keeps what has begun, and what ran at a time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ranks = 0
        self.most = 0
        self.lock = threading.Lock()
        self.go = threading.Event()

    def __call__(self, case: Case, stages: Sequence[Stage]) -> Evidence:
        del stages
        with self.lock:
            self.begun.append(case.name)
            self.ranks += case.parallel.ranks
            self.most = max(self.most, self.ranks)
        time.sleep(0.05 * (len(self.begun) % 3))
        assert self.go.wait(LONG)
        with self.lock:
            self.ranks -= case.parallel.ranks
        return Evidence(seconds=float(case.name))

    def until_begun(self, count: int) -> list[str]:
        limit = time.monotonic() + LONG
        while len(self.begun) < count and time.monotonic() < limit:
            time.sleep(0.01)
        return sorted(self.begun)


def never() -> None:
    raise AssertionError("nothing is to be stopped")


@pytest.mark.parametrize(
    ("cores", "ranks", "first"),
    [
        (2, (1, 2, 1, 4), ["0", "2"]),  # a later case goes before one that has to wait
        (2, (4, 1), ["0"]),  # more ranks than cores: alone
        (4, (2, 4, 1, 1), ["0", "2", "3"]),
        (16, (4, 4, 4, 4), ["0", "1", "2", "3"]),
    ],
)
def test_as_many_begin_as_there_are_cores_for(cores: int, ranks: Sequence[int], first: list[str]) -> None:
    run = Watched()
    found = side_by_side(run, planned(*ranks), cores, never)
    told: list[float] = []
    listener = threading.Thread(target=lambda: told.extend(one.seconds for one in found))
    listener.start()
    assert run.until_begun(len(first)) == first
    time.sleep(0.1)
    assert sorted(run.begun) == first
    run.go.set()
    listener.join(LONG)
    assert told == [*map(float, range(len(ranks)))]
    assert run.most <= max(cores, *ranks)


@pytest.mark.parametrize("how", ["raises", "left"])
def test_what_runs_is_stopped(how: str) -> None:
    """If a case raises, or the loop is left; a stop that comes too early comes again."""
    begun, stopped = threading.Event(), threading.Event()
    asked: list[float] = []

    def run(case: Case, stages: Sequence[Stage]) -> Evidence:
        del stages
        if case.name == "0":
            assert begun.wait(LONG)
            if how == "raises":
                raise OSError("no space left")
            return Evidence()
        begun.set()
        assert stopped.wait(LONG)
        raise RuntimeError("the run was stopped")

    def stop() -> None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            stopped.set()

    found = side_by_side(run, planned(1, 1, 2), 2, stop)
    if how == "raises":
        with pytest.raises(OSError, match="no space left"):
            next(found)
    else:
        next(found)
        found.close()  # type: ignore[attr-defined]
    assert len(asked) >= 3


def test_cores_are_as_many_as_memory_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 9 * 10**9

    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert free_cores([]) == 18
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(10**9)
    assert free_cores([tmp_path]) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert free_cores([]) == 1
    Memory.available = 0
    assert free_cores([]) == 1


ADAPTER = """
import os, time
from mtp_regression.adapters.state_dict import StateDictBridge

class Hangs(StateDictBridge):
    bridge, ranks = "hanging", "processes"
    hang = staticmethod(lambda checkpoint: True)

    def load(self, checkpoint):
        print("pid", os.getpid(), flush=True)
        if self.hang(checkpoint):
            time.sleep(600)

class HangsSecond(Hangs):
    hang = staticmethod(lambda checkpoint: "qwen3.6" in checkpoint.name)
"""
CALLER = """
import os, sys
os.sched_getaffinity = lambda _: range(4)  # whatever this machine has
from mtp_regression.commands.app import app
app(["roundtrip", "--adapter", sys.argv[1], *"--parallel tp1 --report run/roundtrip.json".split()])
"""


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Calls two one-rank cases with one of these adapters; the process does not outlive the test."""
    (tmp_path / "hanging.py").write_text(ADAPTER)
    (tmp_path / "caller.py").write_text(CALLER)
    with ExitStack() as stack:

        def start(adapter: str) -> subprocess.Popen[str]:
            command = [sys.executable, "caller.py", f"hanging:{adapter}"]
            caller = stack.enter_context(
                subprocess.Popen(
                    command, cwd=tmp_path, preexec_fn=hear_ctrl_c, stderr=subprocess.PIPE, text=True
                )
            )
            stack.callback(caller.kill)
            return caller

        yield start


def test_ctrl_c_ends_all_cases(tmp_path: Path, call: Callable[[str], subprocess.Popen[str]]) -> None:
    """Two cases run at a time, in ranks of their own; none is taken up again."""
    caller = call("Hangs")
    limit = time.monotonic() + 3 * LONG
    while len(ranks := logged_pids(tmp_path / "run")) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    assert len(ranks) == 2
    assert all(map(alive, ranks))
    caller.send_signal(signal.SIGINT)
    assert caller.wait(LONG) == 130
    assert not any(map(alive, ranks))
    assert logged_pids(tmp_path / "run") == ranks


def test_an_error_of_the_run_ends_the_cases_that_run(
    tmp_path: Path, call: Callable[[str], subprocess.Popen[str]]
) -> None:
    """The report cannot be written, after the first case, and the second still runs."""
    (tmp_path / "run" / "roundtrip.json").mkdir(parents=True)
    caller = call("HangsSecond")
    _, told = caller.communicate(timeout=4 * LONG)
    assert "roundtrip.json" in told
    assert caller.returncode == 1
    assert not any(map(alive, logged_pids(tmp_path / "run")))

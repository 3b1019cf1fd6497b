"""Ranks that are kept for the next run, as on GPUs, here on the CPU: what stays, and what ends."""

import operator
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rank_jobs
from processes import LONG, gone, logged_pids

from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.processes import kept


@pytest.fixture(autouse=True)
def _kept_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have ranks kept on the CPU too, and none left of this test."""
    monkeypatch.setitem(ranks._STARTS, Device.CPU, kept.kept)
    yield
    kept.end()


def totals(world_size: int, logs: Path) -> tuple[list[float], list[int]]:
    """What the ranks sum up to, and their process ids in rank order."""
    found = ranks.run(rank_jobs.facts, [], world_size=world_size, time_limit=LONG, log_folder=logs)
    return [rank["total"] for rank in found], logged_pids(logs)


def test_a_run_has_the_processes_of_the_one_before(tmp_path: Path) -> None:
    sums, first = totals(1, tmp_path / "1")
    assert sums == [1.0]
    sums, second = totals(3, tmp_path / "2")
    assert sums == [6.0] * 3
    assert second[:1] == first
    sums, third = totals(2, tmp_path / "3")
    assert sums == [3.0] * 2
    assert third == second[:2]
    kept.end()
    assert gone(second)


def test_after_a_failure_all_of_its_processes_are_new(tmp_path: Path) -> None:
    _, before = totals(2, tmp_path / "1")
    with pytest.raises(ranks.RankError, match="rank 1 of 2 raised") as caught:
        ranks.run(rank_jobs.ends, "raise", world_size=2, time_limit=LONG, log_folder=tmp_path / "2")
    assert caught.value.exception == "LookupError"
    assert gone(before)
    sums, after = totals(2, tmp_path / "3")
    assert sums == [3.0] * 2
    assert not {*before} & {*after}


def test_one_that_dies_is_told_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ranks.RankError, match="rank 1 of 2 died of SIGKILL") as caught:
        ranks.run(rank_jobs.ends, "kill", world_size=2, time_limit=LONG, log_folder=tmp_path)
    assert caught.value.exit_code == -9
    assert gone(logged_pids(tmp_path))


def test_one_that_hangs_is_ended_with_its_own_processes(tmp_path: Path) -> None:
    with pytest.raises(ranks.RankError, match="rank 1 did not wait for another rank") as caught:
        ranks.run(rank_jobs.hangs, world_size=2, time_limit=10.0, log_folder=tmp_path)
    assert caught.value.kind == "timeout"
    started = logged_pids(tmp_path)
    assert len(started) == 3
    assert gone(started)


def test_a_call_is_answered_by_a_process_that_then_is_a_rank(tmp_path: Path) -> None:
    pid = kept.call(os.getpid)
    assert totals(1, tmp_path)[1] == [pid]
    with pytest.raises(RuntimeError, match=r"truediv gave no result"):
        kept.call(operator.truediv, 1, 0)
    assert gone([pid])


def test_another_module_path_or_folder_needs_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept.call(os.getpid)
    monkeypatch.syspath_prepend(tmp_path)
    second = kept.call(os.getpid)
    monkeypatch.chdir(tmp_path)
    assert len({first, second, kept.call(os.getpid)}) == 3
    assert kept.call(os.getcwd) == str(tmp_path)


@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_they_end_with_who_has_started_them(end: str) -> None:
    lines = (
        "import os",
        "from mtp_regression.ranks.processes import kept",
        "print(kept.call(os.getpid), flush=True)",
    )
    command = [sys.executable, "-c", "\n".join((*lines, end))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert gone([int(done.stdout)])
    assert not done.stderr

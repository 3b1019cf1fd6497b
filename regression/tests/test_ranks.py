"""Ranks of torch.distributed: results, failures, and that nothing outlives a run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import rank_jobs
from processes import LONG, alive, gone, hear_ctrl_c, logged_pids

from mtp_regression.ranks import run as run_module
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.run import RankError, run, warm

pytestmark = pytest.mark.usefixtures("own_fork_server")

FUNCTIONS = Path(__file__).parent / "rank_functions"


@pytest.fixture(scope="module")
def jobs() -> ModuleType:
    """The module rank_jobs; its ranks need a fork server, which has started."""
    warm()
    return rank_jobs


def fails(
    function: Callable[..., object], *args: object, log_folder: Path, time_limit: float = LONG
) -> RankError:
    """The error of a run on two ranks, after which no process is left."""
    with pytest.raises(RankError) as caught:
        run(function, *args, world_size=2, time_limit=time_limit, log_folder=log_folder)
    started = logged_pids(log_folder)
    assert len(started) >= 2
    assert gone(started)
    assert caught.value.logs == (log_folder / "rank0.log", log_folder / "rank1.log")
    assert all(str(log) in str(caught.value) for log in caught.value.logs)
    return caught.value


def test_every_rank_returns_its_result(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_AFTER_THE_START", "seen")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # a GPU that ranks on the CPU are not to see
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "SET_AFTER_THE_START", "CUDA_VISIBLE_DEVICES"]
    results = run(jobs.facts, names, world_size=4, time_limit=LONG, log_folder=tmp_path)
    assert results == [
        {
            "rank": rank,
            "total": 10.0,
            "threads": 1,
            "environment": [str(rank), "4", str(rank), "seen", ""],
            "start_method": multiprocessing.get_context().get_start_method(),
            "has_pytest": False,
            "policies": {os.SCHED_BATCH},
        }
        for rank in range(4)
    ]
    started = logged_pids(tmp_path)
    assert len(set(started)) == 4
    assert not [pid for pid in started if alive(pid)]


def test_what_the_end_of_a_process_closes_is_not_closed_before(jobs: ModuleType, tmp_path: Path) -> None:
    assert run(jobs.keeps_its_groups, world_size=2, time_limit=LONG, log_folder=tmp_path) == [3, 3]


def test_the_caller_imports_no_torch(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds, before the first rank."""
    monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it fails
    assert run(jobs.total, world_size=2, time_limit=LONG, log_folder=tmp_path) == [3, 3]


def test_a_log_has_all_output_in_order_and_of_the_last_run_alone(jobs: ModuleType, tmp_path: Path) -> None:
    for _ in range(2):
        run(jobs.speaks, world_size=2, time_limit=LONG, log_folder=tmp_path / "new")
    for rank in range(2):
        lines = (tmp_path / "new" / f"rank{rank}.log").read_text().splitlines()
        said = [line for line in lines if line.startswith("by ")]
        assert said == ["by print", "by descriptor 2", "by descriptor 1", "by stderr"]


def test_what_a_rank_started_is_killed(jobs: ModuleType, tmp_path: Path) -> None:
    run(jobs.leaves_a_process, world_size=2, time_limit=LONG, log_folder=tmp_path)
    started = logged_pids(tmp_path)
    assert len(started) == 2
    assert gone(started)


@pytest.mark.parametrize("how", ["raise", "echo first"])
def test_the_rank_that_raised_first_is_shown(jobs: ModuleType, tmp_path: Path, how: str) -> None:
    error = fails(jobs.ends, how, log_folder=tmp_path)
    assert (error.kind, error.rank) == ("raised", 1)
    assert "rank 1 of 2 raised" in str(error)
    assert (error.exception, error.message) == ("LookupError", "the expert is gone")
    assert "in ends" in error.traceback
    assert "LookupError: the expert is gone" in error.traceback
    assert error.traceback in error.logs[1].read_text()


@pytest.mark.parametrize(
    ("how", "shown"),
    [("kill", "rank 1 of 2 died of SIGKILL"), ("3", "with exit code 3"), ("0", "with exit code 0")],
)
def test_a_rank_that_dies_without_a_word_is_named(
    jobs: ModuleType, tmp_path: Path, how: str, shown: str
) -> None:
    error = fails(jobs.ends, how, log_folder=tmp_path)
    assert (error.kind, error.rank) == ("died", 1)
    assert shown in str(error)
    assert shown in error.message
    assert error.exception == ""
    assert ("last words" in error.traceback) == (how != "kill")


def test_results_come_as_they_are(jobs: ModuleType, tmp_path: Path) -> None:
    results = run(jobs.given, Parallel(ep=2), world_size=2, time_limit=LONG, log_folder=tmp_path)
    assert results == [(Parallel(ep=2), 0), (Parallel(ep=2), 1)]


def test_a_result_that_cannot_be_pickled_is_an_error(jobs: ModuleType, tmp_path: Path) -> None:
    error = fails(jobs.unfit, log_folder=tmp_path)
    assert (error.kind, error.rank) == ("raised", 1)
    assert "unfit.<locals>.<lambda>" in error.traceback


def test_a_hung_rank_shows_its_stack(jobs: ModuleType, tmp_path: Path) -> None:
    error = fails(jobs.hangs, log_folder=tmp_path, time_limit=6)
    assert (error.kind, error.rank) == ("timeout", 1)
    assert "ranks 0, 1 of 2 still ran after 6 s; rank 1 did not wait" in str(error)
    guilty, _, waiting = error.traceback.partition("rank 0:")
    assert "in hangs" in guilty
    assert "in all_reduce" not in guilty
    assert "in all_reduce" in waiting
    assert "in hangs" in error.logs[1].read_text()


def test_ranks_that_wait_for_each_other_need_not_be_waited_for(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_STILL", 2.0)
    monkeypatch.setattr(run_module, "_LOOK", 0.5)
    begin = time.monotonic()
    error = fails(jobs.meet_in_different_calls, log_folder=tmp_path)
    assert time.monotonic() - begin < LONG / 2
    assert (error.kind, error.rank) == ("timeout", 0)
    assert str(error).startswith("ranks 0, 1 of 2 did not end: each waited for another rank\n")
    assert "in all_reduce" in error.traceback
    assert "in recv" in error.traceback


@pytest.mark.parametrize("waits", ["sleeps_a_while", "has_a_process_compute"])
def test_a_rank_that_waits_for_something_else_is_waited_for(
    jobs: ModuleType, waits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_STILL", 1.0)
    monkeypatch.setattr(run_module, "_LOOK", 0.25)
    job = getattr(jobs, waits)
    assert run(job, world_size=2, time_limit=LONG, log_folder=tmp_path) == [3, 3]


def test_a_function_of_the_main_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "__module__", "__main__")
    with pytest.raises(ValueError, match="main module"):
        run(alive, world_size=1, time_limit=LONG, log_folder=tmp_path)


def test_ranks_end_with_their_caller(tmp_path: Path) -> None:
    """After Ctrl-C, which the caller survives, and after SIGKILL; no rank imports the caller's script."""
    script = tmp_path / "caller.py"
    script.write_text("""
from pathlib import Path
with Path("imports").open("a") as imports:
    imports.write(f"{__name__} ")
if __name__ == "__main__":
    import rank_jobs
    from mtp_regression.ranks.run import run
    for folder in "interrupted", "killed":
        try:
            run(rank_jobs.hangs, world_size=2, time_limit=60, log_folder=Path(folder))
        except KeyboardInterrupt:
            pass
""")
    environ = os.environ | {"PYTHONPATH": str(FUNCTIONS)}
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environ, preexec_fn=hear_ctrl_c
    ) as caller:
        try:
            for folder, how in ("interrupted", signal.SIGINT), ("killed", signal.SIGKILL):
                limit = time.monotonic() + LONG
                while len(started := logged_pids(tmp_path / folder)) < 3 and time.monotonic() < limit:
                    time.sleep(0.05)
                assert len(started) == 3
                assert all(map(alive, started))
                caller.send_signal(how)
                assert gone(started)
            assert caller.wait(LONG) == -signal.SIGKILL
            assert (tmp_path / "imports").read_text() == "__main__ "
        finally:
            caller.kill()


def test_a_module_is_imported_once_for_all_ranks(jobs: ModuleType, tmp_path: Path) -> None:
    warm(["rank_jobs"])
    servers = {
        server
        for _ in range(2)
        for server in run(
            jobs.imported_by, world_size=2, time_limit=LONG, log_folder=tmp_path, preload=["rank_jobs"]
        )
    }
    assert len(servers) == 1
    assert os.getpid() not in servers


def test_torchrun(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, FUNCTIONS / "rank_jobs.py", tmp_path], check=True, timeout=LONG, capture_output=True
    )
    assert [(tmp_path / f"{rank}").read_text() for rank in range(2)] == ["2 0 [3.0, 3.0]", "2 1 [3.0, 3.0]"]


def test_slurm(jobs: ModuleType, tmp_path: Path) -> None:
    assert run(jobs.as_slurm_tasks, world_size=2, time_limit=LONG, log_folder=tmp_path) == [[3.0, 3.0]] * 2

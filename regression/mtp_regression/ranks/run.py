"""Runs a function on the ranks of a torch.distributed process group: one process per rank, on this machine.

On the CPU the ranks are forked from a server that has imported the heavy modules once; on GPUs, where a fork
cannot use CUDA, they are interpreters that are kept for the next run.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.processes import stacks
from mtp_regression.ranks.processes.fork_server import PreloadError, children, starting, warm
from mtp_regression.ranks.processes.kept import Worker, kept
from mtp_regression.ranks.processes.process import Job, kill, live, signal_group
from mtp_regression.ranks.processes.stillness import Stillness
from mtp_regression.ranks.rank import Kind, Raised, RankError
from mtp_regression.ranks.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

__all__ = ["PreloadError", "RankError", "run", "warm"]

# Errors of the other ranks after one has ended: of gloo, the key-value store, NCCL.
_ECHO = re.compile(
    r"Connection (closed|reset) by (remote )?peer|Broken pipe|Connection refused"
    r"|ncclRemoteError|remote process exited|NCCL communicator was aborted",
    re.IGNORECASE,
)
_ECHO_GRACE = 1.0  # seconds to wait for the true error after its first echo
_LOOK = 2.0  # seconds between looks at what ranks do
_STILL = 10.0  # seconds; then it is asked whether they wait for each other
_TAIL_LINES = 40
_running: set[BaseProcess] = set()  # the CPU ranks of all runs, for `stop`


def run(
    function: Callable[..., Any],
    *args: Any,
    world_size: int,
    time_limit: float,
    log_folder: Path,
    preload: Sequence[str] = (),
    device: Device = Device.CPU,
) -> list[Any]:
    """Calls `function(world, *args)` on every rank of a new process group; threads may do so side by side.

    Afterwards, even on an error, no rank is alive, nor any process that a rank started, but for ranks on GPUs
    that have ended well (`processes.kept`). All end with this process, even if it is killed. Ranks have this
    process's module path, working folder and environment.

    Args:
        function: A function of an importable module; its result is pickled, to be taken apart here.
        args: Its arguments; pickled.
        world_size: Number of ranks.
        time_limit: Seconds that the ranks may take, without the start of the fork server.
        log_folder: Folder for each rank's output, `rank0.log` and so on; old logs are replaced.
        preload: Modules that the ranks need; see `warm`.
        device: The device of the ranks' tensors.

    Returns:
        Every rank's result, in rank order.

    Raises:
        PreloadError: See `warm`.
        RankError: A rank failed, or the time limit was reached.
        ValueError: The ranks could not import the function.
    """
    if function.__module__ == "__main__":
        raise ValueError(f"{function!r} is defined in the main module, which ranks cannot import; move it")
    if not device.on_gpu:
        warm(preload or ["torch"])
    log_folder.mkdir(parents=True, exist_ok=True)
    logs = tuple(log_folder / f"rank{rank}.log" for rank in range(world_size))
    for log in logs:
        log.unlink(missing_ok=True)
    with scratch("ranks-") as folder:
        payload = pickle.dumps((function, args))
        environment = dict(os.environ) | device.environment
        asked = time.monotonic()
        job = Job(payload, world_size, device, time_limit, folder, logs, environment, asked)
        with _STARTS[device](job) as ranks:
            _wait(ranks, job)
        results = [job.file(rank, "result").read_bytes() for rank in range(world_size)]
        return [pickle.loads(result) for result in results]  # noqa: S301 - made by processes started here


@contextmanager
def _forked(job: Job) -> Iterator[Sequence[BaseProcess]]:
    """Fork a process for each rank, and have none of them left at the end of a `with` block."""
    # Not torch's start_processes: this process would have to import torch.
    context: Any = multiprocessing.get_context("forkserver")
    ranks: list[BaseProcess] = [context.Process(target=live, args=(n, job)) for n in range(job.size)]
    started: set[BaseProcess] = set()
    try:
        with children:
            others = set(multiprocessing.active_children())
            try:
                with starting():
                    for process in ranks:
                        process.start()
            finally:
                # After an interrupt during the start, some ranks are only in the list of children.
                started = set(multiprocessing.active_children()) - others
                _running.update(started)
        yield ranks
    finally:
        with children:
            _running.difference_update(started)
            kill(started)


def stop() -> None:
    """End the CPU ranks of all runs of this process, for which other threads wait: each run raises."""
    with children:
        for process in _running:
            signal_group(process)


_STARTS: dict[Device, Callable[[Job], AbstractContextManager[Sequence[BaseProcess | Worker]]]] = {
    Device.CPU: _forked,
    Device.CUDA: kept,
    Device.CUDA_SHARED: kept,
}


def _wait(ranks: Sequence[BaseProcess | Worker], job: Job) -> None:
    """Returns when all ranks have ended well.

    Raises:
        RankError: At the first failure, at the time limit, or when all wait for each other.
    """
    deadline = time.monotonic() + job.time_limit
    watched = None if job.device.on_gpu else Stillness(process.pid for process in ranks if process.pid)
    running: dict[Any, int] = {process.sentinel: rank for rank, process in enumerate(ranks)}
    failures: list[_Failure] = []
    while running:
        left = max(0.0, deadline - time.monotonic())
        ready = connection.wait(list(running), min(left, _LOOK) if watched else left)
        for rank in [running.pop(sentinel) for sentinel in ready]:
            with children:
                ranks[rank].join()
            if ranks[rank].exitcode != 0 or not job.file(rank, "result").exists():
                failures.append(_Failure.of(rank, ranks[rank].exitcode, job))
        late = not ready and time.monotonic() >= deadline
        if failures and (late or not running or not all(failure.echo for failure in failures)):
            raise min(failures, key=lambda failure: (failure.echo, failure.when)).error(job)
        if late:
            raise _ended(_stacks(ranks, running.values(), job), job)
        if not ready and watched and watched.seconds() >= _STILL:
            found = _stacks(ranks, running.values(), job)
            if all(map(stacks.waits, found.values())):
                raise _ended(found, job)
            watched = None  # one of them waits for something else, which may come
        if failures:
            deadline = min(deadline, time.monotonic() + _ECHO_GRACE)


@dataclass(frozen=True)
class _Failure:
    """How a rank failed."""

    rank: int
    kind: Kind
    how: str
    raised: Raised
    echo: bool  # it only says that another rank has gone
    when: int  # nanoseconds
    exit_code: int | None

    @classmethod
    def of(cls, rank: int, exit_code: int | None, job: Job) -> _Failure:
        error = job.file(rank, "error")
        if error.exists():
            raised: Raised = pickle.loads(error.read_bytes())  # noqa: S301 - as a result is
            echo = bool(_ECHO.search(raised.traceback))
            return cls(rank, "raised", "raised", raised, echo, error.stat().st_mtime_ns, exit_code)
        died_of = signal.Signals(-exit_code) if exit_code and exit_code < 0 else None
        how = f"died of {died_of.name}" if died_of else f"left without a result, with exit code {exit_code}"
        lines = job.logs[rank].read_text(errors="replace").splitlines() if job.logs[rank].exists() else []
        tail = "\n".join(lines[-_TAIL_LINES:]) or "(it is empty)"
        # NCCL's watchdog aborts a process whose peer has gone.
        echo = died_of == signal.SIGABRT and bool(_ECHO.search(tail))
        said = Raised("", f"rank {rank} of {job.size} {how}", f"the end of its log:\n{tail}")
        return cls(rank, "died", how, said, echo, time.time_ns(), exit_code)

    def error(self, job: Job) -> RankError:
        headline = f"rank {self.rank} of {job.size} {self.how}"
        error = RankError(headline, self.rank, self.kind, self.raised, job.logs)
        error.exit_code = self.exit_code
        return error


def _stacks(ranks: Sequence[BaseProcess | Worker], running: Iterable[int], job: Job) -> dict[int, str]:
    pids = {rank: pid for rank in running if (pid := ranks[rank].pid)}
    return stacks.ask({rank: (pid, job.file(rank, "stack")) for rank, pid in pids.items()})


def _ended(found: dict[int, str], job: Job) -> RankError:
    """Makes the error of ranks that were ended, of their stacks; names first those that do not wait."""
    for rank, stack in found.items():
        with job.logs[rank].open("a") as log:
            log.write(f"\nstack when the rank was ended:\n{stack}")
    return RankError.timed_out(found, stacks.waits, job.size, job.time_limit, job.logs)

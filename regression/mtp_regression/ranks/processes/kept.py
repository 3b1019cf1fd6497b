"""Processes that are ranks of one case after another, for GPUs: a fork cannot use CUDA.

A new interpreter for each rank of each case would import the bridge again: on a machine with an H100 that
took 16 of a case's 23 s. So ranks that have ended a case well are kept, until this process ends; those of a
case that has failed are killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.processes.fork_server import children, no_result, starting
from mtp_regression.ranks.processes.process import Job, kill, lead_group, work

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_idle: list[Worker] = []


class Worker:
    """The caller's end of such a process; what waits for ranks takes it for a `BaseProcess`.

    Attributes:
        sentinel: Is ready when the process has answered, or has ended.
        exitcode: 0 if it has answered, or else the process's own.
    """

    def __init__(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        self.sentinel, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.exitcode: int | None = None
        self.place = _place()
        with children, starting(Device.CUDA):
            self.process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self.process.pid

    def ask(self, function: Callable[..., Any], *args: Any) -> None:
        """Have it call a function; both are pickled."""
        self.exitcode = None
        self.sentinel.send((function, args))

    def answer(self) -> Any:
        """Wait for what the function returns.

        Raises:
            EOFError: It raised, or ended the process.
        """
        answer = self.sentinel.recv()
        self.exitcode = 0
        return answer

    def join(self) -> None:
        """Wait until it has answered, or has ended."""
        try:
            self.answer()
        except (EOFError, OSError):
            with children:
                self.process.join()
            self.exitcode = self.process.exitcode


@contextmanager
def kept(job: Job) -> Iterator[list[Worker]]:
    """Have one worker for each rank do a job, as long as a `with` block lasts."""
    with _taken(job.size) as workers:
        for rank, worker in enumerate(workers):
            worker.ask(_work, rank, job)
        yield workers


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a worker, as `fork_server.call` does in a fork."""
    try:
        with _taken(1) as (worker,):
            worker.ask(function, *args)
            return worker.answer()
    except EOFError:
        raise no_result(function) from None


@contextmanager
def _taken(count: int) -> Iterator[list[Worker]]:
    """Take workers, new ones where none is kept; they are kept after the `with` block, unless it raises."""
    with children:
        taken = [worker for worker in _idle if worker.place == _place() and worker.process.is_alive()][:count]
        _idle[:] = [worker for worker in _idle if worker not in taken]
    try:
        while len(taken) < count:
            taken.append(Worker())
        yield taken
    except BaseException:
        with children:
            kill(worker.process for worker in taken)
        raise
    with children:
        _idle[:0] = taken  # each is likely to be the same rank again, and to use the same GPU


def _place() -> tuple[object, ...]:
    """Return what a worker has of this process from its start on."""
    return os.getpid(), Path.cwd(), *sys.path


def end() -> None:
    """Kill all workers that are kept."""
    with children:
        kill(worker.process for worker in _idle if worker.place[0] == os.getpid())
        _idle.clear()


util.Finalize(None, end, exitpriority=0)  # before `multiprocessing` waits for its children


def _work(rank: int, job: Job) -> None:
    """Do a rank's part of a job; the process ends if it fails, as that of any rank."""
    code = work(rank, job)
    if code:
        os._exit(code)


def _serve(asked: Connection) -> None:
    """Runs a worker's process: calls what it is asked to; does not return."""
    lead_group()
    while True:
        function, args = asked.recv()
        asked.send(function(*args))

"""The process of one rank, from its start to its end."""

from __future__ import annotations

import faulthandler
import fcntl
import multiprocessing
import os
import pickle
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

from mtp_regression.ranks.processes.stacks import ASK
from mtp_regression.ranks.rank import Raised

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import TextIOWrapper
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from mtp_regression.ranks.devices import Device


@dataclass(frozen=True)
class Job:
    """What every rank needs to know about a run."""

    payload: bytes  # (function, args), pickled: unpickled only once a rank's errors are caught
    size: int
    device: Device
    time_limit: float
    folder: Path  # temporary: store, results, errors, stacks
    logs: tuple[Path, ...]
    environment: dict[str, str]  # the fork server has only that of its own start
    asked: float  # when, in seconds of `time.monotonic`

    def file(self, rank: int, what: Literal["result", "error", "stack"]) -> Path:
        """Return the path of a rank's result or `Raised` (both pickled), or of its stack (text)."""
        return self.folder / f"{rank}.{what}"


def live(rank: int, job: Job) -> None:
    """Runs a rank's process from its start to its end; does not return."""
    lead_group()
    os._exit(work(rank, job, ends=True))  # at once: the connections' end tells the other ranks


def lead_group() -> None:
    """Has this process end with its caller, and lead a group with which its own processes can be killed."""
    # After Ctrl-C the caller ends the ranks: end at once, even in C code.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setpgid(0, 0)
    die_with_caller()


def work(rank: int, job: Job, *, ends: bool = False) -> int:
    """Joins the group, calls the function, and writes its result, or what it raised.

    Args:
        rank: The rank.
        job: The run.
        ends: Whether this process ends when that is done.

    Returns:
        The exit code.
    """
    log = os.open(job.logs[rank], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        cast("TextIOWrapper", stream).reconfigure(line_buffering=True)
    faulthandler.enable()
    faulthandler.register(ASK, job.file(rank, "stack").open("w"))
    os.environ.update(job.environment)
    multiprocessing.set_start_method(None, force=True)  # the platform's, as in any other process
    code = 1
    try:
        import torch

        from mtp_regression.ranks.world import World, join, leave

        function, args = pickle.loads(job.payload)  # noqa: S301 - made by the process that started this one
        # All ranks are on this machine, which may have no network: use the loopback interface.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        torch.set_num_threads(1)  # tensors have megabytes: to wake threads for one takes longer
        with suppress(PermissionError):
            # Else a thread of gloo that wakes takes the core of the one that has the lock it then spins for.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if not job.device.on_gpu:
            cpus = sorted(os.sched_getaffinity(0))
            if job.size > len(cpus):
                # Pin ranks that must share a core, so that a collective wakes its thread on the same core.
                os.sched_setaffinity(0, {cpus[rank % len(cpus)]})
        world = World(rank, job.size, rank, job.device, f"file://{job.folder}/store")
        world.ledger.since(job.asked, "start")
        with world.ledger.step("join"):
            join(world, timedelta(seconds=2 * job.time_limit))
        result = pickle.dumps(function(world, *args))
        leave(world, ends=ends)
        job.file(rank, "result").write_bytes(result)
        code = 0
    except BaseException as error:
        raised = Raised.of(error)
        job.file(rank, "error").write_bytes(pickle.dumps(raised))
        sys.stderr.write(raised.traceback)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def kill(processes: Iterable[BaseProcess]) -> None:
    """Kills processes and their groups, and returns when they are gone."""
    killed = list(processes)
    for process in killed:
        signal_group(process)
    for process in killed:
        process.join()
        process.close()


def signal_group(process: BaseProcess) -> None:
    """Sends SIGKILL to a process and its group."""
    with suppress(ProcessLookupError):  # the group is empty, or not made yet
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()


def die_with_caller() -> None:
    """Has the kernel kill this process when the process that asked for it ends, however it ends.

    The parent may be the fork server, which lives on. But only the caller has the other end of the pipe
    through which this process was started. If this process leads a group, the group is killed.
    """
    caller = multiprocessing.parent_process()
    assert caller is not None
    own = os.getpid()
    kill_at_hangup(caller.sentinel, -own if os.getpgrp() == own else own)


def kill_at_hangup(pipe: int, target: int) -> None:
    """Has the kernel send SIGKILL when the writing end of a pipe closes.

    A thread that watched the pipe would need the GIL.

    Args:
        pipe: The reading end, which what is killed has inherited.
        target: A process, or a group as a negative number.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, target)
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # closed before
        os.kill(target, signal.SIGKILL)

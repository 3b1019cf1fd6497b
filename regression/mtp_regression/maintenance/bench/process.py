"""What a process costs: seconds, seconds of CPU, and the most memory that it has had."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What one run has cost.

    Attributes:
        seconds: From its start to its end.
        cpu: Seconds of CPU, its children's too; None if they cannot be told.
        memory: Peak of its resident memory in bytes; None likewise.
    """

    seconds: float
    cpu: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Cost:
    """What several runs have cost: the least, the median and the most.

    Attributes:
        seconds: Of each from its start to its end.
        cpu: Seconds of CPU; empty if they cannot be told.
        memory: The most of all, in bytes; None likewise.
    """

    seconds: tuple[float, ...]
    cpu: tuple[float, ...] = ()
    memory: int | None = None

    @classmethod
    def of(cls, runs: Sequence[Usage]) -> Cost:
        """Sum up runs."""
        cpu = [run.cpu for run in runs if run.cpu is not None]
        memory = [run.memory for run in runs if run.memory is not None]
        return cls(_spread([run.seconds for run in runs]), _spread(cpu), max(memory, default=None))


def _spread(values: Sequence[float]) -> tuple[float, ...]:
    if not values:
        return ()
    return tuple(round(value, 4) for value in (min(values), statistics.median(values), max(values)))


_RUN = """
import json, os, sys, time
source, sink, *command = sys.argv[1:]
start = time.perf_counter()
with open(source, "rb") as one, open(sink, "wb") as other:
    files = [(os.POSIX_SPAWN_DUP2, one.fileno(), 0), (os.POSIX_SPAWN_DUP2, other.fileno(), 1)]
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, cpu, memory]))
"""
"""Run by a small interpreter: a process's peak of memory is at least that of the process that started it."""


def run(
    command: Sequence[str], *, stdin: Path | None = None, stdout: Path | None = None, code: int = 0
) -> Usage:
    """Run a command to its end.

    Args:
        command: The words of it.
        stdin: What it reads.
        stdout: Where its output goes; None: nowhere.
        code: The exit code that it is to have.

    Raises:
        RuntimeError: It has another exit code.
    """
    os.sync()  # what the run before has left for the disk is not this one's
    files = [str(stdin or os.devnull), str(stdout or os.devnull)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _RUN, *files, *command], check=True, stdout=subprocess.PIPE
    )
    ended, seconds, cpu, memory = json.loads(done.stdout)
    if ended != code:
        raise RuntimeError(f"exit code {ended}: {' '.join(command)}")
    return Usage(seconds, cpu, memory)


def alternately(runs: Sequence[Callable[[], Usage]], times: int) -> list[Cost]:
    """Do each so many times, in turns: what else the machine does is then every one's in equal parts."""
    found: list[list[Usage]] = [[] for _ in runs]
    for _ in range(times):
        for usages, one in zip(found, runs, strict=True):
            usages.append(one())
    return [Cost.of(usages) for usages in found]


def python(script: str, *arguments: str | Path) -> list[str]:
    """Return the command that runs a script with this interpreter."""
    return [sys.executable, "-c", script, *map(str, arguments)]


def mtpkit(*arguments: str | Path) -> list[str]:
    """Return a command of `mtpkit`."""
    return [sys.executable, "-m", "mtp_regression", *map(str, arguments)]

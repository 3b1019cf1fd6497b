"""A command that is killed with SIGKILL while its ranks run: the next one finds nothing of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from mtp_regression.ranks.rank import Rank
from mtp_regression.ranks.run import run

_RANKS = 2
_TIME_LIMIT = 300.0


def start_and_kill(folder: Path) -> None:
    """Start a command whose ranks sleep, and kill it alone when all of them do.

    Args:
        folder: A new folder, for the ranks' logs.

    Raises:
        RuntimeError: The ranks do not start.
    """
    script = f"from {__name__} import call; from pathlib import Path; call(Path({str(folder)!r}))"
    command = subprocess.Popen([sys.executable, "-c", script])
    logs = [folder / f"rank{rank}.log" for rank in range(_RANKS)]
    deadline = time.monotonic() + _TIME_LIMIT
    try:
        while not all(log.exists() and "asleep" in log.read_text(encoding="utf-8") for log in logs):
            if command.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the ranks of the command that is to be killed did not start")
            time.sleep(0.05)
    finally:
        command.kill()
        command.wait()


def call(folder: Path) -> None:
    """Run ranks that sleep."""
    run(sleep, world_size=_RANKS, time_limit=_TIME_LIMIT, log_folder=folder)


def sleep(rank: Rank) -> None:
    """Sleep on a rank, for longer than it is let."""
    print("asleep", flush=True)
    rank.barrier()
    time.sleep(2 * _TIME_LIMIT)

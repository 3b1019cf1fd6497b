"""Asks ranks that still run for their stacks, and tells which of them wait for other ranks."""

from __future__ import annotations

import linecache
import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ASK = signal.SIGUSR1
"""At this signal a rank's `faulthandler` writes the stacks of all threads."""

_PATIENCE = 5.0  # seconds, on a busy machine
# Modules of torch whose functions wait for the other ranks, and a line of any module that does.
_COLLECTIVE = re.compile(r"torch/distributed/(distributed_c10d|rendezvous|_functional_collectives)\.py$")
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+) in ')
_MASK = re.compile(r"^(SigPnd|ShdPnd|SigBlk):\s*([0-9a-f]+)$", re.MULTILINE)


def ask(processes: Mapping[int, tuple[int, Path]]) -> dict[int, str]:
    """Have ranks write their stacks, and read these when they are whole.

    A dump says nowhere that it is at its end, and a process that shares a core may stop in the middle of it;
    but as long as a handler runs, the kernel withholds its signal from the thread.

    Args:
        processes: Rank -> process id and the file of its stacks, which may have those of before.

    Returns:
        Rank -> its stacks; of one that does not write them in time what is there.
    """
    old = {file: len(_text(file)) for _, file in processes.values()}
    before = {pid: _withheld(pid) for pid, _ in processes.values()}
    for pid in before:
        with suppress(ProcessLookupError):
            os.kill(pid, ASK)
    patience = time.monotonic() + _PATIENCE
    while time.monotonic() < patience and not all(
        _text(file)[old[file] :] and _withheld(pid) <= before[pid] for pid, file in processes.values()
    ):
        time.sleep(0.05)
    return {rank: _text(file)[old[file] :] for rank, (_, file) in processes.items()}


def waits(stack: str) -> bool:
    """Whether the main thread in a dump of faulthandler is waiting for other ranks."""
    frame = _FRAME.search(stack, max(stack.find("Current thread"), 0))
    if frame is None:
        return False
    line = linecache.getline(frame["file"], int(frame["line"]))
    return bool(_COLLECTIVE.search(frame["file"])) or ".wait(" in line


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _withheld(pid: int) -> set[tuple[str, str]]:
    """Return where the signal is pending or blocked: thread, and field of `/proc/PID/task/THREAD/status`."""
    found = set()
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(OSError):  # the thread has ended
            masks = _MASK.findall(status.read_text())
            found |= {(status.parent.name, name) for name, mask in masks if int(mask, 16) >> (ASK - 1) & 1}
    return found

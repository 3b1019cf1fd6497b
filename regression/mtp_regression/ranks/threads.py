"""Ranks as threads of this process, for bridges that hold arrays and need no torch."""

from __future__ import annotations

import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mtp_regression.ranks.ledger import WAIT, Ledger
from mtp_regression.ranks.rank import Raised, RankError


class _Meeting:
    """Where the threads of a run meet: what each has brought, and a barrier before and after."""

    def __init__(self, size: int) -> None:
        self.brought: list[Any] = [None] * size
        self.barrier = threading.Barrier(size)


@dataclass(frozen=True)
class ThreadRank:
    """One of the ranks of a run; see `ranks.rank.Rank`. What it gathers is not copied.

    Attributes:
        rank: From 0 to `size - 1`.
        size: Number of ranks.
        ledger: Where its time goes.
    """

    rank: int
    size: int
    _meeting: _Meeting
    ledger: Ledger = field(default_factory=Ledger, compare=False)

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order; called on every rank.

        Raises:
            threading.BrokenBarrierError: Another rank has failed.
        """
        with self.ledger.step(WAIT):
            self._meeting.brought[self.rank] = value
            self._meeting.barrier.wait()
            values = list(self._meeting.brought)
            self._meeting.barrier.wait()
        return values

    def barrier(self) -> None:
        """Wait for all ranks; raises as `gather` does."""
        with self.ledger.step(WAIT):
            self._meeting.barrier.wait()

    def peak_gpu_bytes(self) -> int:
        """Return 0."""
        return 0


def run_threads(function: Callable[..., Any], *args: Any, size: int, time_limit: float) -> list[Any]:
    """Calls `function(rank, *args)` on as many threads as there are ranks.

    Args:
        function: What each rank does.
        args: Its arguments, the same objects on all.
        size: Number of ranks.
        time_limit: Seconds that they may take. A thread cannot be ended: one that hangs is left behind.

    Returns:
        Every rank's result, in rank order.

    Raises:
        RankError: A rank raised an exception, or the time limit was reached.
    """
    meeting = _Meeting(size)
    results: list[Any] = [None] * size
    errors: list[tuple[int, Raised]] = []

    def live(rank: ThreadRank) -> None:
        try:
            results[rank.rank] = function(rank, *args)
        except threading.BrokenBarrierError:  # an echo of another rank's error
            pass
        except BaseException as error:
            errors.append((rank.rank, Raised.of(error)))
            meeting.barrier.abort()

    threads = [
        threading.Thread(target=live, args=(ThreadRank(number, size, meeting),), daemon=True)
        for number in range(size)
    ]
    deadline = time.monotonic() + time_limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        number, raised = errors[0]
        raise RankError(f"rank {number} of {size} raised", number, "raised", raised, ())
    frames = sys._current_frames()
    stacks = {
        number: "".join(traceback.format_stack(frames[thread.ident or 0]))
        for number, thread in enumerate(threads)
        if thread.is_alive()
    }
    if stacks:
        raise RankError.timed_out(stacks, lambda stack: bool(_WAITS.search(stack)), size, time_limit, ())
    return results


_WAITS = re.compile(rf'File "{re.escape(__file__)}", line \d+, in (gather|barrier)$', re.MULTILINE)
"""In the stack of a thread that waits for the others."""

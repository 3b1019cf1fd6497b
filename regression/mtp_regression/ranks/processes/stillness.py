"""Tells for how long ranks have done nothing: no thread of theirs computes, or waits for a core or a disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_AT_WORK = 0.5
"""Of the time between two looks; threads that wait for other ranks wake to look a hundred times a second."""


class Stillness:
    """Watches process groups, which are to be looked at every few seconds.

    Args:
        leaders: The process that leads each group.
    """

    def __init__(self, leaders: Iterable[int]) -> None:
        self._leaders = frozenset(leaders)
        self._looked = self._since = time.monotonic()
        self._threads: dict[Path, float | None] = {}

    def seconds(self) -> float:
        """Look, and return for how long nothing has been done; a thread that is new has done something."""
        now, threads = time.monotonic(), dict(self._look())
        most = _AT_WORK * (now - self._looked)
        before = self._threads
        if not threads or any(_worked(before.get(one), after, most) for one, after in threads.items()):
            self._since = now
        self._looked, self._threads = now, threads
        return now - self._since

    def _look(self) -> Iterator[tuple[Path, float | None]]:
        """Yield each thread, and the seconds that it has run, or had no core; None if it is on a disk."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or this kernel does not tell
                _, _, group = _state(process)
                for thread in process.glob("task/*") if int(group) in self._leaders else ():
                    run, delayed, _ = (thread / "schedstat").read_text().split()
                    told = int(run) and _state(thread)[0] != "D"  # kernels that do not count say 0
                    yield thread, (int(run) + int(delayed)) / 1e9 if told else None


def _worked(before: float | None, after: float | None, most: float) -> bool:
    return before is None or after is None or after - before > most


def _state(thread: Path) -> list[str]:
    """Return state, parent and group of a process or thread."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[:3]

"""What is left when a round trip has ended: processes, descriptors, shared memory, files; and memory."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, cast

import psutil

MARK = "MTP_SOAK"
"""Variable of the environment by which all processes that come of this one are known."""
STEEPEST = 64 * 1024
"""Bytes a round trip by which a process's own memory may grow; in 500 of them 32 MB."""
_PATIENCE = 5.0
"""Seconds that what has been killed may take to be gone."""
_FEWEST = 16
"""Of fewer measurements a growth of memory is noise."""


@dataclass(frozen=True)
class State:
    """What there is at a moment; each thing by a name, with how often it is there."""

    things: Counter[str]

    @classmethod
    def now(cls) -> State:
        """Look at processes with the mark, descriptors, shared memory and temporary files."""
        things = Counter[str]()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == os.environ[MARK]:
                    things[f"process {process.pid}, {process.name()}"] += 1
        for name, pid in processes().items():
            with suppress(OSError):
                for link in Path(f"/proc/{pid}/fd").iterdir():
                    things[f"descriptor of the {name}: {_kind(link)}"] += 1
        things.update(f"shared memory {entry.name}" for entry in Path("/dev/shm").iterdir())  # noqa: S108
        things.update(f"temporary {entry.name}" for entry in Path(tempfile.gettempdir()).iterdir())
        return cls(things)


def _kind(link: Path) -> str:
    """Say what a descriptor is of; sockets and pipes are called by their numbers."""
    try:
        return link.readlink().as_posix().partition(":")[0]
    except OSError:  # closed meanwhile
        return "closed"


def _of_another(thing: str) -> bool:
    """Whether shared memory is that of a process without the mark: all users' is in one folder."""
    what, _, name = thing.rpartition(" ")
    for process in psutil.process_iter() if what == "shared memory" else ():
        with suppress(psutil.Error, OSError):
            ours = process.pid == os.getpid() or process.environ().get(MARK) == os.environ[MARK]
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
            if not ours and f"/dev/shm/{name}" in maps:  # noqa: S108
                return True
    return False


def processes() -> dict[str, int]:
    """Return the processes that live on from one round trip to the next: names and numbers."""
    server = cast("Any", forkserver)._forkserver._forkserver_pid
    return {"command": os.getpid(), **({"fork server": server} if server else {})}


@dataclass
class Watch:
    """Looks at what is left after each round trip; the first look says what is to be there.

    Attributes:
        memory: What each process had of its own at each look, in bytes, by its name.
    """

    memory: dict[str, list[int]] = field(default_factory=dict)
    _first: State | None = None

    def left(self) -> Iterator[str]:
        """Say what is there that was not at the first look; it is given time to go."""
        if self._first is None:
            self._first = State.now()
        patience = time.monotonic() + _PATIENCE
        while (more := State.now().things - self._first.things) and time.monotonic() < patience:
            time.sleep(0.1)
        more = Counter({thing: times for thing, times in more.items() if not _of_another(thing)})
        for name, pid in processes().items():
            self.memory.setdefault(name, []).append(anonymous(pid))
        yield from (f"left behind: {thing}{f', {times} more' * (times > 1)}" for thing, times in more.items())

    def growth(self) -> dict[str, float | None]:
        """Return the bytes by which each process's memory has grown a look; None if there were too few."""
        return {name: growth(sizes) for name, sizes in self.memory.items()}


def anonymous(pid: int) -> int:
    """Return a process's resident bytes that are of no file: a file's are its own when no other maps it."""
    memory = psutil.Process(pid).memory_info()
    return int(memory.rss - memory.shared)


def growth(sizes: Sequence[int]) -> float | None:
    """Return how much something grows a time, once it is warm.

    It is the median of the last quarter less that of the second, by the times between them: what comes and
    goes does not count. None of fewer than 16 sizes.
    """
    quarter = len(sizes) // 4
    if len(sizes) < _FEWEST:
        return None
    second, last = sizes[quarter : 2 * quarter], sizes[-quarter:]
    return (statistics.median(last) - statistics.median(second)) / (len(sizes) - 2 * quarter)

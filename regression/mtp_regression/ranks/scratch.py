"""Temporary folders that do not outlive their process for long, however it ends.

A process that is killed leaves its folders behind. Each has a file that the process holds locked for as long
as it lives; the kernel unlocks it when it ends, and whoever makes the next folder removes those.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIXES = ("mtp-checkpoints-", "mtp-roundtrip-", "ranks-", "pymp-")
"""Of folders that this package makes, and of that of `multiprocessing`, which other programs have as well."""
_LOCK = ".mtp-regression.lock"


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Give a new folder, and remove it at the end; first, remove those of processes that have been killed.

    Args:
        prefix: Beginning of its name, one of `_PREFIXES`.
    """
    remove_abandoned()
    made = tempfile.TemporaryDirectory(prefix=prefix)
    lock = own(Path(made.name))
    try:
        with made as name:
            yield Path(name)
    finally:
        os.close(lock)  # when it is gone: nobody else is to remove it meanwhile


def own(folder: Path) -> int:
    """Mark a folder as this process's, until its end or until the returned descriptor is closed."""
    unfinished = folder / f"{_LOCK}.unfinished"
    lock = os.open(unfinished, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.replace(unfinished, folder / _LOCK)  # noqa: PTH105 - nobody sees it unlocked
    return lock


def remove_abandoned() -> None:
    """Remove marked folders of this user whose process has ended."""
    with os.scandir(tempfile.gettempdir()) as entries:
        names = [entry.path for entry in entries if entry.name.startswith(_PREFIXES)]
    for name in names:
        with suppress(OSError):  # gone meanwhile, not marked, another user's, or in use
            lock = os.open(Path(name, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(name, ignore_errors=True)
            finally:
                os.close(lock)

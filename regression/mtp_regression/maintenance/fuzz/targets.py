"""What a reader of files from strangers must do with any bytes: return what holds together, or refuse.

`check_input` judges one input. No fuzzer is needed for that: `run` feeds it, tests do, and so does
whoever reproduces a failure.
"""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp_checkpoint.errors import CheckpointError

OUTSIDE = "outside.safetensors"
"""A sound file beside the folder, and a link to it. `PIPE` is a FIFO: reading it waits for ever."""
PIPE = "pipe.safetensors"

# Measured: JSON in Python takes up to 47 bytes for each of its own, for lists in lists ("[[[[]]]],[[[[]]]]").
MEMORY_FACTOR = 64
MEMORY_FREE = 2**18  # bytes, for messages and the reader's own objects
_MAX_MESSAGE = 3000  # characters: five problems, each with a name or two of 200
_REFUSED_EVENTS = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.", "socket.", "subprocess.")
_FOLDER_EVENTS = ("os.listdir", "os.scandir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class ReaderError(AssertionError):
    """A reader did something else than return a consistent result or raise `CheckpointError`."""


@dataclass(frozen=True)
class Reader:
    """A reader and its inputs.

    Attributes:
        name: What the command line calls it.
        write: Stores an input in a folder, as the reader finds it; returns the bytes of memory it may
            take for a length that the input states and the file has.
        read: Reads what was stored.
        check: Raises `ReaderError` if the result does not hold together. Given the result, input and folder.
        lengths: Where an input states lengths: offset and size of the field, begin of what it measures.
    """

    name: str
    write: Callable[[Path, bytes], int]
    read: Callable[[Path], Any]
    check: Callable[[Any, bytes, Path], None]
    lengths: Callable[[bytes], list[tuple[int, int, int]]] = lambda _content: []


class _Watch:
    """Sees through an audit hook what a call opens. Hooks cannot be removed, so there is one a process."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.hooked = False

    @contextmanager
    def on(self, folder: Path) -> Iterator[list[str]]:
        if not self.hooked:
            sys.addaudithook(self._audit)
            self.hooked = True
        self.seen, self.folder = [], os.path.abspath(folder)  # noqa: PTH100 (links are followed)
        try:
            yield self.seen
        finally:
            self.folder = None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (folder := self.folder) is None:
            return
        if event.startswith(_REFUSED_EVENTS):
            problem = f"calls {event}"
        elif event in ("open", *_FOLDER_EVENTS) and not isinstance(arguments[0], int):
            path = os.fsdecode(arguments[0])
            flags = arguments[2] if event == "open" else 0
            named = os.path.abspath(path)  # noqa: PTH100 (where a link leads is its owner's affair)
            if named != folder and not named.startswith(folder + os.sep):
                problem = f"{event} of {path}, outside of the folder"
            elif isinstance(flags, int) and flags & _WRITING:
                problem = f"opens {path} for writing"
            else:
                return
        else:
            return
        self.seen.append(problem)
        raise ReaderError(problem)  # or what is outside may block


_WATCH = _Watch()


def prepare(folder: Path) -> Path:
    """Make the folder that inputs are stored in: below `folder`, with a link out of it and a FIFO."""
    inside = folder / "checkpoint"
    inside.mkdir(parents=True)
    header = b'{"out":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / OUTSIDE).write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    (inside / OUTSIDE).symlink_to(f"../{OUTSIDE}")
    os.mkfifo(inside / PIPE)
    return inside


def check_input(reader: Reader, folder: Path, content: bytes) -> bool:
    """Give a reader one input and judge what it does.

    Args:
        reader: The reader.
        folder: What `prepare` made.
        content: The input.

    Returns:
        Whether the reader took it; False if it raised `CheckpointError`.

    Raises:
        ReaderError: Another exception, a result that does not hold together, an unprintable or endless
            message, a file outside of the folder opened, more memory taken than the input explains.
    """
    allowed = reader.write(folder, content) + MEMORY_FACTOR * len(content) + MEMORY_FREE
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    refusal: CheckpointError | None = None
    result: Any = None
    try:
        with _WATCH.on(folder) as seen:
            try:
                result = reader.read(folder)
            except CheckpointError as error:
                refusal = error
        peak = tracemalloc.get_traced_memory()[1] - before
    except Exception as error:
        raise ReaderError(f"{reader.name} raised {type(error).__name__}: {error}") from error
    finally:
        if not tracing:
            tracemalloc.stop()
    if seen:  # a reader may have swallowed what the hook raised
        raise ReaderError(f"{reader.name}: {seen[0]}")
    if peak > allowed:
        raise ReaderError(f"{reader.name} took {peak} bytes for an input of {len(content)}, over {allowed}")
    if refusal is None:
        reader.check(result, content, folder)
        return True
    message = str(refusal)
    if not refusal.problems or not message.isprintable() or len(message) > _MAX_MESSAGE + len(str(folder)):
        raise ReaderError(f"{reader.name} refused with a bad message: {message[:500]!r}")
    return False

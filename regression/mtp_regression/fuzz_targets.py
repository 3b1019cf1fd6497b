"""What a reader of files from strangers must do with any bytes: return what holds together, or refuse.

`check_input` judges one input. No fuzzer is needed for that: `fuzz` feeds it, tests do, and so does
whoever reproduces a failure.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from mtp_bridge_patch.declaration import CONFIG_NAME, Declaration
from mtp_bridge_patch.export_record import FILE_NAME, ExportRecord
from mtp_bridge_patch.headers import DTYPE_BITS, ShardHeader, read_header
from mtp_bridge_patch.index import INDEX_NAME, CheckpointHeaders, Index, read_checkpoint, read_index
from mtp_bridge_patch.untrusted import CheckpointError

SHARD = "model.safetensors-00001-of-00001.safetensors"
"""The one file of the folder that the input gives the header of."""
OUTSIDE = "outside.safetensors"
"""A link in the folder to a sound file beside it. `PIPE` is a FIFO: reading it waits for ever."""
PIPE = "pipe.safetensors"

# Measured: JSON in Python takes up to 47 bytes for each of its own, for lists in lists ("[[[[]]]],[[[[]]]]").
MEMORY_FACTOR = 64
MEMORY_FREE = 2**18  # bytes, for messages and the reader's own objects
_TEXT_FACTOR = 6  # of a header that is zeros: its bytes, and text of up to four bytes a character
_MAX_DATA = 2**24  # bytes that follow a header; the file is sparse
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
        self.seen, self.folder = [], os.path.realpath(folder)
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
            if os.path.realpath(path) != folder and not os.path.realpath(path).startswith(folder + os.sep):
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


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ReaderError(what)


def _write_file(name: str) -> Callable[[Path, bytes], int]:
    def write(folder: Path, content: bytes) -> int:
        (folder / name).write_bytes(content)
        return 0

    return write


def _write_shard(folder: Path, content: bytes) -> int:
    """Store a file's beginning; the last four bytes say how much (sparse) data follows."""
    start, size = content[:-4], int.from_bytes(content[-4:], "little") % _MAX_DATA
    (folder / SHARD).write_bytes(start)
    os.truncate(folder / SHARD, len(start) + size)
    claimed = int.from_bytes(start[:8], "little")
    return _TEXT_FACTOR * claimed if claimed <= len(start) + size else 0


def _write_checkpoint(folder: Path, content: bytes) -> int:
    """Store an index, whose length the first four bytes say, and a shard; length 0 stands for no index."""
    end = 4 + int.from_bytes(content[:4], "little")
    (folder / INDEX_NAME).unlink(missing_ok=True)
    if end > 4:
        (folder / INDEX_NAME).write_bytes(content[4:end])
    return _write_shard(folder, content[end:])


def _shard_lengths(_content: bytes, start: int = 0) -> list[tuple[int, int, int]]:
    return [(start, 8, start + 8)]


def _checkpoint_lengths(content: bytes) -> list[tuple[int, int, int]]:
    return [(0, 4, 4), *_shard_lengths(content, 4 + int.from_bytes(content[:4], "little"))]


def _check_header(header: ShardHeader, file_size: int) -> None:
    _expect(header.data_start + header.data_size == file_size, "header and data do not fill the file")
    sizes = 0
    for name, (dtype, shape, begin, end) in header.tensors.items():
        _expect(0 <= begin <= end <= header.data_size, f"{name!r} ends outside of the file")
        _expect(
            prod(shape) * DTYPE_BITS[dtype] == 8 * (end - begin), f"{name!r} has another size than its data"
        )
        sizes += end - begin
    _expect(sizes == header.data_size, "the tensors do not fill the data")


def _check_index(index: Index, folder: Path) -> None:
    for file in index.weight_map.values():
        normal = os.path.normpath(folder / file)
        _expect(os.path.split(normal) == (str(folder), file), f"{file!r} is no plain file name")
    _expect(type(index.total_size) in (int, type(None)), "total_size is no whole number")


def _check_checkpoint(read: CheckpointHeaders, content: bytes, folder: Path) -> None:
    for file, header in read.shards.items():
        _expect(file == SHARD, f"{file!r} was read")
        _check_header(header, (folder / file).stat().st_size)
    if read.index is not None:
        _check_index(read.index, folder)
        _expect(read.index.weight_map == read.shard_of, "index and files contradict each other")
    _expect(read.tensors.keys() == read.shard_of.keys() and bool(read.tensors), "not every tensor has a file")
    _expect(
        (read.index is None) == (content[:4] in (b"", bytes(len(content[:4])))), "the index was overlooked"
    )


def _check_config(declaration: Declaration | None, _content: bytes, _folder: Path) -> None:
    _expect(declaration is not None, "config.json was overlooked")
    for field in fields(Declaration):
        value = getattr(declaration, field.name)
        _expect(value is None or (type(value) is int and value >= 0), f"{field.name} is {value!r}, no size")


def _check_record(record: ExportRecord | None, content: bytes, _folder: Path) -> None:
    if record is None:
        raise ReaderError("the record was overlooked")
    names = json.loads(content)["float32"]
    _expect(
        isinstance(names, list) and set(names) == record.float32, "float32 holds other names than the file"
    )
    again = ExportRecord.from_json(record.to_json().encode(), "the record that was written again")
    _expect(again == record, "the record is another one when written and read")


READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "header",
            _write_shard,
            lambda folder: read_header(folder / SHARD),
            lambda header, _, folder: _check_header(header, (folder / SHARD).stat().st_size),
            _shard_lengths,
        ),
        Reader(
            "index",
            _write_file(INDEX_NAME),
            lambda folder: read_index(folder / INDEX_NAME),
            lambda index, _, folder: _check_index(index, folder),
        ),
        Reader("checkpoint", _write_checkpoint, read_checkpoint, _check_checkpoint, _checkpoint_lengths),
        Reader("config", _write_file(CONFIG_NAME), Declaration.read, _check_config),
        Reader("record", _write_file(FILE_NAME), ExportRecord.read, _check_record),
    )
}
"""The readers by name; what an input is made of is said by their `write`."""

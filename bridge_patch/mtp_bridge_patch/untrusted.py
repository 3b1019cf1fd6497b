"""Files that come from strangers: opened, decoded and named so that nothing in them can do harm."""

import errno
import io
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

MAX_JSON_SIZE = 100_000_000
"""Largest header or index that is read, in bytes; the limit of safetensors itself (its MAX_HEADER_SIZE)."""

_PROBLEMS_SHOWN = 5


class CheckpointError(ValueError):
    """A file or folder that cannot be read as a checkpoint, or as a part of one.

    Attributes:
        where: Path of the file or folder.
        problems: All that is wrong with it; the message shows the first few.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        super().__init__(where, problems)
        self.where = where
        self.problems = list(problems)

    def __str__(self) -> str:
        count = f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}"
        more = "; ..." if len(self.problems) > _PROBLEMS_SHOWN else ""
        return f"{shown(self.where)}: {count}: {'; '.join(self.problems[:_PROBLEMS_SHOWN])}{more}"


@contextmanager
def regular_file(path: Path) -> Iterator[tuple[io.FileIO, int]]:
    """Open a file unbuffered, for reading, and give its size in bytes.

    Raises:
        CheckpointError: There is no such file, reading fails, or it is a folder, a FIFO or a device.
    """
    try:
        with io.FileIO(path, opener=_open_regular) as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CheckpointError(str(path), [error.strerror or str(error)]) from None


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # or a FIFO waits for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file")
    return descriptor


def check_inside(folder: Path, file: str) -> None:
    """Check that a file's real path, with all links followed, is below its folder's; it need not exist.

    Raises:
        CheckpointError: It is not.
    """
    real = Path(os.path.realpath(folder / file))  # Path.resolve raises on a loop of links
    roots = [os.path.realpath(folder)]
    if Path(roots[0]).parent.name == "snapshots":  # the cache of huggingface_hub: files are links to blobs
        roots.append(os.path.join(os.path.dirname(os.path.dirname(roots[0])), "blobs"))  # noqa: PTH118, PTH120
    if not any(real.is_relative_to(root) for root in roots):
        raise CheckpointError(str(folder / file), ["is outside the folder"])


def read_json(path: Path) -> bytes:
    """Read a file of JSON, without decoding it.

    Raises:
        CheckpointError: The file cannot be read, or is larger than `MAX_JSON_SIZE`.
    """
    with regular_file(path) as (file, size):
        if size > MAX_JSON_SIZE:
            raise CheckpointError(str(path), [f"its {size} bytes are over the limit of {MAX_JSON_SIZE}"])
        return file.read(size)


def read_json_of(folder: Path, file: str) -> bytes | None:
    """Read a folder's file of JSON, without decoding it; None if there is none.

    Raises:
        CheckpointError: As `read_json`; or it is (through a link) outside the folder.
    """
    if not os.path.lexists(folder / file):
        return None
    check_inside(folder, file)
    return read_json(folder / file)


def parse_object(raw: bytes, where: str) -> tuple[dict[str, Any], list[str]]:
    """Decode a JSON object, more strictly than `json.loads`.

    Args:
        raw: The object as UTF-8.
        where: The file's path, for errors.

    Returns:
        The object, and a problem for every key that occurs twice in it, at any depth.

    Raises:
        CheckpointError: It is not UTF-8, not JSON (NaN and Infinity are not), no object, nested too deeply,
            or holds an integer of thousands of digits or half a surrogate pair.
    """
    problems: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    problems.append(f"key {shown(key)} occurs twice")
                seen.add(key)
        return members

    try:
        text = raw.decode("utf-8")
        document = json.loads(text, object_pairs_hook=unique, parse_constant=_refuse)
        if "\\u" in text:  # nothing else can make half a surrogate pair, which no output could show
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        problem = "its JSON is nested too deeply"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}"
    except UnicodeEncodeError:
        problem = "its JSON holds half a surrogate pair"
    except ValueError as error:
        problem = f"is no JSON: {str(error).partition(';')[0]}"
    else:
        if isinstance(document, dict):
            return document, problems
        problem = "is no JSON object"
    raise CheckpointError(where, [problem])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def shown(text: str, limit: int = 200) -> str:
    """Return a name from a file as a message can show it: short, and without control characters."""
    if len(text) <= limit and text.isprintable() and text:
        return text
    return repr(text[:limit]) + "..." * (len(text) > limit)

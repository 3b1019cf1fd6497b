"""The ends of the ranks' logs, where the files are beside the report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_LINES = 50
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Log:
    """A rank's log.

    Attributes:
        name: Its path below the folder of logs.
        tail: Its last lines; empty if the file is not there, or not asked for.
        lines: How many lines the tail has.
    """

    name: str
    tail: str = ""
    lines: int = 0


def log(recorded: str, folder: Path | None, most: int) -> Log:
    """Read the end of a log.

    What is not below `logs/` of the folder is not read, whatever path the report names, wherever links lead.

    Args:
        recorded: Its path, as the report has it.
        folder: That of the report; None reads nothing.
        most: Bytes that are read, from the end.
    """
    parts = PurePosixPath(recorded).parts
    starts = [number for number, part in enumerate(parts) if part == "logs"]
    name = "/".join(parts[starts[0] + 1 :] if starts else parts[-1:])
    if folder is not None:
        logs = (folder / "logs").resolve()
        for start in starts:
            file = logs.joinpath(*parts[start + 1 :]).resolve()
            if file.is_relative_to(logs) and file.is_file():
                return Log(name, *_tail(file, most))
    return Log(name)


def _tail(file: Path, most: int) -> tuple[str, int]:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - most))
        text = stream.read(most).decode("utf-8", "replace")
    lines = _ESCAPES.sub("", text).splitlines()
    if size > most:
        del lines[:1]  # it began in the middle
    return "\n".join(lines[-_LINES:]), min(len(lines), _LINES)

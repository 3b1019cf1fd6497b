"""Asks warm servers, and starts one; `MTPKIT_SERVER` is the switch."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtp_regression.server.identity import interpreter_flags, key
from mtp_regression.server.messages import locked, peer, receiving, send

SWITCH = "MTPKIT_SERVER"
"""The environment variable that says how many minutes a server may be idle; unset, empty or 0 is none."""

_PATIENCE = 300.0  # seconds for an import, on a busy machine; after that a caller imports by itself
_SHORT_PATIENCE = 5.0
_START = "from mtp_regression.server.process import main; main({})"


class NoServerError(RuntimeError):
    """No server can be asked or started; the message says why."""


def idle_minutes() -> float:
    """Return the minutes that a server may be idle; 0 if none is wanted.

    Raises:
        NoServerError: The variable has something else.
    """
    text = os.environ.get(SWITCH) or "0"
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not minutes >= 0:
        raise NoServerError(f"{SWITCH} is {text!r}, and not a number of minutes")
    return minutes


def folder() -> Path:
    """Return this user's folder for sockets, and make it.

    Raises:
        NoServerError: It is not this user's alone.
    """
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"mtpkit-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError as error:
        raise NoServerError(str(error)) from None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    if not private:
        raise NoServerError(f"{place} is not a folder of this user alone")
    return place


def fork(
    modules: Sequence[str], environment: Mapping[str, str], listener: int, alive: int, minutes: float
) -> int:
    """Let a warm server make the fork server of this process, and start one that can if there is none.

    Args:
        modules: What it is to have imported.
        environment: The environment variables of the fork.
        listener: A listening socket, for `multiprocessing.forkserver.main`.
        alive: The end of a pipe, for the same.
        minutes: How long a server that is started may be idle.

    Returns:
        The process id of the fork, which is not this process's child.

    Raises:
        NoServerError: There is none; nothing is left behind.
    """
    place = folder() / f"{key(modules, environment)}.socket"
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - as it is, links and all
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    asked = {
        "do": "fork",
        "path": path,
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(environment),
        "ignored": ignored,
    }
    why = ""
    for _ in range(2):  # one that is there may have gone meanwhile, or find that it is out of date
        try:
            with _connected(place, modules, environment, path, minutes) as connection:
                answer = _ask(connection, asked, (listener, alive, 0))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = str(error) or repr(error)
        else:
            if "pid" in answer:
                return int(answer["pid"])
            why = str(answer.get("changed"))
    raise NoServerError(f"{why}; see {place.with_suffix('.log')}")


def servers() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the socket of each server of this user that answers, and what it says of itself.

    Sockets of those that died are taken away.
    """
    for place in sorted(folder().glob("*.socket")):
        if status := _tell(place, "status"):
            yield place, status


def stop(place: Path, pid: int) -> None:
    """Tell the server of a socket to end, and return when it has."""
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(pid)
        _tell(place, "stop")
        select.select([ended], [], [], _SHORT_PATIENCE)
        os.close(ended)


def _tell(place: Path, what: str) -> dict[str, Any]:
    try:
        with _connect(place) as connection:
            connection.settimeout(_SHORT_PATIENCE)
            return _ask(connection, {"do": what})
    except ConnectionRefusedError:
        with locked(place.parent), suppress(OSError), socket.socket(socket.AF_UNIX) as again:
            if again.connect_ex(str(place)):
                place.unlink()
    except (OSError, ValueError):
        pass
    return {}


def _ask(
    connection: socket.socket, asked: Mapping[str, Any], descriptors: tuple[int, ...] = ()
) -> dict[str, Any]:
    send(connection, asked, descriptors)
    with receiving(connection) as (answer, _):
        return answer


def _connect(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(str(place))
        if peer(connection) != os.getuid():
            raise ConnectionAbortedError(f"{place} is another user's")
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(
    place: Path, modules: Sequence[str], environment: Mapping[str, str], path: Sequence[str], minutes: float
) -> socket.socket:
    """Connect to the server of a socket; start it if there is none."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        return _connect(place)
    with locked(place.parent):
        with suppress(FileNotFoundError, ConnectionRefusedError):  # another process has started it
            return _connect(place)
        place.unlink(missing_ok=True)
        told = {"modules": list(modules), "path": list(path), "socket": str(place), "minutes": minutes}
        # The socket is there at once: who comes while the server imports waits, or is told by its end.
        with socket.socket(socket.AF_UNIX) as listener, place.with_suffix(".log").open("a") as log:
            listener.bind(str(place))
            listener.listen()
            subprocess.run(
                [sys.executable, *interpreter_flags(), "-c", _START.format(listener.fileno())],
                input=json.dumps(told).encode(),
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                check=True,
            )
    return _connect(place)

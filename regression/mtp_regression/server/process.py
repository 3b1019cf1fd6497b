"""The process of a warm server: imports, then does nothing but fork.

A fork becomes what multiprocessing calls a fork server, that of the command which has asked for it, and ends
with it. The server ends after some idle minutes, on SIGTERM, when its socket is gone, and when a file that it
has imported has changed. Besides what it is there for it imports the standard library alone.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NoReturn

from mtp_regression.server.identity import Imported
from mtp_regression.server.messages import locked, peer, receiving, send

_LOOK = 1.0  # seconds between looks at the socket and the clock
_PATIENCE = 5.0  # seconds for what a caller sends


def main(descriptor: int) -> NoReturn:
    """Be a server, apart from the process that has started this one.

    Standard input has a JSON object: `path` and `modules` to import, the `socket`'s path, idle `minutes`.

    Args:
        descriptor: The listening socket.
    """
    told = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    with open(os.devnull) as null:  # noqa: PTH123
        os.dup2(null.fileno(), 0)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 1
    try:
        _Server(socket.socket(fileno=descriptor), told).run()
        code = 0
    except SystemExit:
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: to free what was imported takes seconds


def _end(*_: object) -> NoReturn:
    raise SystemExit


def _heed(ignored: Collection[int]) -> None:
    """Treat signals as a new interpreter does, whose caller ignores some."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else own)


class _Server:
    """Answers callers one after the other, with a fork for each."""

    def __init__(self, listener: socket.socket, told: Mapping[str, Any]) -> None:
        self._listener = listener
        self._told = told
        self._socket = Path(told["socket"])
        self._inode = self._socket.stat().st_ino
        self._commands: dict[int, int] = {}  # pidfd -> process id, of forks that have not ended
        self._served = 0
        self._start = self._last = time.monotonic()
        self._imported = Imported(told["path"])

    def run(self) -> None:
        """Import, then serve until it is time to end."""
        try:
            sys.path[:] = self._told["path"]
            gc.disable()  # what an import makes it keeps
            for module in self._told["modules"]:
                importlib.import_module(module)
            change = self._imported.end(self._told["path"])
            if others := threading.active_count() - 1:
                raise RuntimeError(f"{others} threads were started, which no fork would have")
            if change:
                raise RuntimeError(change)
            os.chdir("/")
            gc.freeze()  # so that a collection in a fork does not copy all pages
            gc.enable()
            self._last = time.monotonic()
            while not self._over():
                self._wait()
        finally:
            with suppress(FileNotFoundError), locked(self._socket.parent):
                if self._own():
                    self._socket.unlink()

    def _over(self) -> bool:
        idle = not self._commands and time.monotonic() - self._last > 60 * self._told["minutes"]
        return idle or not self._own()

    def _own(self) -> bool:
        try:
            return self._socket.stat().st_ino == self._inode
        except OSError:
            return False

    def _wait(self) -> None:
        listener = self._listener.fileno()
        ready, _, _ = select.select([listener, *self._commands], [], [], _LOOK)
        for ended in self._commands.keys() & set(ready):
            os.waitpid(self._commands.pop(ended), 0)
            os.close(ended)
            self._last = time.monotonic()
        if listener in ready:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError, ValueError):
                connection.settimeout(_PATIENCE)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        if peer(connection) != os.getuid():
            return
        with receiving(connection) as (asked, descriptors):
            if asked["do"] == "stop":
                send(connection, {})
                raise SystemExit
            if asked["do"] == "status":
                send(connection, self._status())
            else:
                send(connection, self._fork(connection, asked, descriptors))

    def _fork(
        self, connection: socket.socket, asked: Mapping[str, Any], descriptors: Sequence[int]
    ) -> dict[str, Any]:
        if change := self._imported.changed(asked["path"]):
            print(change, flush=True)
            self._socket.unlink(missing_ok=True)  # and so it ends
            return {"changed": change}
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._become(asked, *descriptors)
        self._commands[os.pidfd_open(pid)] = pid
        self._served += 1
        return {"pid": pid}

    def _become(self, asked: Mapping[str, Any], listener: int, alive: int, stdin: int) -> NoReturn:
        """Be the fork server of a command, as a new interpreter would be."""
        try:
            os.setsid()  # a signal to the server's group is not for this process
            _heed(asked["ignored"])
            self._listener.close()
            for command in self._commands:
                os.close(command)
            os.dup2(stdin, 0)  # output goes where the preload says
            os.close(stdin)
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            importlib.invalidate_caches()
            forkserver.main(listener, alive, ["mtp_regression.ranks.processes.preload"])
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "pid": os.getpid(),
            "bridge": ", ".join(map(_release, self._told["modules"])),
            "age": now - self._start,
            "idle": 0.0 if self._commands else now - self._last,
            "served": self._served,
        }


def _release(module: str) -> str:
    """Return which bridge's adapter a module is, and its release; of others the module's name."""
    for found in vars(sys.modules[module]).values():
        if isinstance(found, type) and found.__module__ == module and "bridge" in vars(found):
            with suppress(metadata.PackageNotFoundError):
                bridge = vars(found)["bridge"]
                return f"{bridge} {metadata.version(bridge)}"
    return module

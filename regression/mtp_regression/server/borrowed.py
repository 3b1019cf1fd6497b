"""Gives this process a fork server that is a fork of a warm server, in the place of a new interpreter."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Sequence
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from typing import Any, cast

from mtp_regression.server.client import NoServerError, fork, idle_minutes
from mtp_regression.server.stable import stable


class _Borrowed(forkserver.ForkServer):
    """`multiprocessing`'s handle of a fork server that is not a child: its end shows in a pidfd.

    Its other attributes are those of the base class, whose methods connect to it. If it is gone, the next
    process that is started has a fork server of its own.
    """

    _forkserver_address: str
    _forkserver_alive_fd: int
    _pidfd: int

    def ensure_running(self) -> None:
        with cast("Any", self)._lock:
            cast("Any", resource_tracker).ensure_running()
            if not select.select([self._pidfd], [], [], 0)[0]:
                return
            self._stop_unlocked()
        forkserver.ForkServer.ensure_running(self)

    def _stop_unlocked(self) -> None:
        os.close(self._forkserver_alive_fd)
        select.select([self._pidfd], [], [])
        os.close(self._pidfd)
        Path(self._forkserver_address).unlink(missing_ok=True)
        unused: Any = self
        unused._forkserver_address = unused._forkserver_alive_fd = unused._forkserver_pid = None
        unused.__class__ = forkserver.ForkServer


def borrow(modules: Sequence[str]) -> bool:
    """Let a warm server make this process's fork server, where the user wants one and it knows a module.

    To be called when there is none, with the environment variables that it is to have.

    Args:
        modules: What every rank needs, in the order of the import.

    Returns:
        Whether there is one now. If not, and one should be, standard error says why.

    Raises:
        NoServerError: The switch has no number.
    """
    minutes = idle_minutes()
    if not minutes or not (wanted := stable(modules)):
        return False
    handle: Any = cast("Any", forkserver)._forkserver
    address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
    alive_read, alive_write = os.pipe()
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            os.close(os.pidfd_open(os.getpid()))  # needs Linux 5.3
            listener.bind(address)
            Path(address).chmod(0o600)
            listener.listen()
            environment = dict(os.environ)
            pid = fork(wanted, environment, listener.fileno(), alive_read, minutes)
            pidfd = os.pidfd_open(pid)
    except BaseException as error:
        os.close(alive_write)
        Path(address).unlink(missing_ok=True)
        if not isinstance(error, NoServerError | OSError):
            raise
        print(f"mtpkit: no warm server: {error}", file=sys.stderr)
        return False
    finally:
        os.close(alive_read)
    handle.__class__ = _Borrowed  # this very object: multiprocessing has handed out its methods
    handle._forkserver_address, handle._forkserver_alive_fd = address, alive_write
    handle._forkserver_pid, handle._pidfd = pid, pidfd
    return True


def borrowed() -> bool:
    """Whether this process's fork server is a warm server's fork."""
    return isinstance(cast("Any", forkserver)._forkserver, _Borrowed)

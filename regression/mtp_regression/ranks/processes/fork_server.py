"""Python's fork server, with the modules that every rank needs already imported: a rank costs only a fork.

`multiprocessing` has one fork server per process; this module preloads it, and reports a failed import. Where
the user wants a warm server, it is a fork of that one, and not a new interpreter: `mtp_regression.server`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast
from unittest import mock

from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.scratch import own
from mtp_regression.server.borrowed import borrow, borrowed
from mtp_regression.server.client import NoServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

_TAIL_LINES = 100
_NOT_BEGUN = "a new interpreter cannot import mtp_regression; is it installed there?"

ImportedBy = Literal["command", "server"]
"""Who has imported what ranks need: this process's own fork server, or a warm server for it."""

children = threading.RLock()
"""Held while children are started, listed or joined: two threads that ask for one exit code both read it."""

# Modules that the running server has imported; None while there is no server.
_preloaded: tuple[str, ...] | None = None


class PreloadError(RuntimeError):
    """A module that every rank needs cannot be imported; the message says why."""


def warm(preload: Sequence[str] = ()) -> float:
    """Starts the fork server and waits until it has imported the modules.

    Does nothing if a running server has them all; a server without one of them is replaced by one that has
    these and its own, and the old one's processes end.

    Args:
        preload: Names of modules, imported in this order. Their output is discarded.

    Returns:
        Seconds that it took.

    Raises:
        PreloadError: An import raised an exception, or ended the server; or MTPKIT_SERVER is no number.
    """
    start = time.monotonic()
    with children:
        if _preloaded is None or not set(preload) <= set(_preloaded):
            _start(preload)
    return time.monotonic() - start


def _start(preload: Sequence[str]) -> None:
    global _preloaded
    cast("Any", forkserver)._forkserver._stop()  # there is no public way to start with other modules
    # What the old server had is likely to be wanted again.
    _preloaded = tuple(dict.fromkeys((*preload, *(_preloaded or ()))))
    multiprocessing.set_forkserver_preload(["mtp_regression.ranks.processes.preload"])
    log = _log()
    log.unlink(missing_ok=True)
    log.write_text(_NOT_BEGUN)  # until the server opens it, which may be when this process removes its folder
    probe = multiprocessing.get_context("forkserver").Process()
    try:
        with starting():
            borrow(_preloaded)
            probe.start()
        probe.join()
    except NoServerError as error:
        _preloaded = None
        raise PreloadError(str(error)) from None
    except BaseException as error:
        _preloaded = None
        if not isinstance(error, OSError | EOFError):
            raise
        written = log.read_text(errors="replace")
        lines = [] if written == _NOT_BEGUN else written.splitlines()
        told = "\n".join(["", *lines[-_TAIL_LINES:]] if len(lines) > 1 else lines) or str(error)
        raise PreloadError(f"cannot import {' and '.join(preload)} for the ranks: {told}") from None
    if log.read_text(errors="replace") == _NOT_BEGUN:
        _preloaded = None
        raise PreloadError(_NOT_BEGUN)


def imported_by() -> ImportedBy:
    """Return "server" if a warm server has imported the bridge (`MTPKIT_SERVER`), and else "command"."""
    return "server" if borrowed() else "command"


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function in a fork of the server.

    Args:
        function: A function of an importable module; its arguments and its result are pickled.
        args: Its arguments.

    Returns:
        The function's result.

    Raises:
        RuntimeError: It raised, or ended the process.
    """
    context: Any = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, args))
    with children, starting():
        process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise no_result(function) from None
    except BaseException:  # Ctrl-C does not reach a fork of a warm server
        process.kill()
        raise
    finally:
        with children:
            process.join()


def no_result(function: Callable[..., Any]) -> RuntimeError:
    """Make the error for a function that raised, or ended its process."""
    return RuntimeError(f"{function.__module__}.{function.__qualname__} gave no result")


def _answer(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    sender.send(function(*args))


@contextmanager
def starting(device: Device = Device.CPU) -> Iterator[None]:
    """Sets up what a new process, or a new server, inherits from this one; start processes inside it.

    The environment tells the server which modules to import. The main module is hidden: each process would
    import it again, and under pytest, whose command is a script, that is all of pytest.

    Args:
        device: The device of the new processes.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    modules = [*(_preloaded or ()), "mtp_regression.ranks.processes.process"]
    request = json.dumps({"modules": modules, "path": sys.path, "log": str(_log())})
    try:
        with mock.patch.dict(os.environ, device.environment | {"MTP_PRELOAD": request}):
            yield
    finally:
        sys.modules["__main__"] = main


@cache
def _folder(process: int) -> Path:
    """Return the folder of a process's temporary files, marked as its own."""
    del process  # a fork has another
    folder = Path(util.get_temp_dir())
    own(folder)
    return folder


def _log() -> Path:
    """Return the path of the server's log; it is deleted with the process's other temporary files."""
    return _folder(os.getpid()) / "preload.log"

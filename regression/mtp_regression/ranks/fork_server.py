"""Python's fork server, with the modules imported that every rank needs, so that a rank costs a fork.

`multiprocessing` gives a process one fork server; what is here fills it, and notices when that fails.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from contextlib import contextmanager
from multiprocessing import forkserver, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from mtp_regression.ranks.devices import Device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

_TAIL_LINES = 100

# What the running server has imported; None while there is no server.
_preloaded: tuple[str, ...] | None = None


class PreloadError(RuntimeError):
    """A module that every rank needs cannot be imported; the message ends with the import's traceback."""


def warm(preload: Sequence[str] = ()) -> float:
    """Starts the fork server and waits until it has imported the modules.

    Where it has already, nothing happens; a server that lacks one of the modules is replaced by another
    that has these as well.

    Args:
        preload: Names of modules, imported in this order. Their output is dropped.

    Returns:
        Seconds it took.

    Raises:
        PreloadError: An import raised, or ended the server.
    """
    global _preloaded
    start = time.monotonic()
    if _preloaded is None or not set(preload) <= set(_preloaded):
        cast("Any", forkserver)._forkserver._stop()  # there is no public way to start with other modules
        # What the old server had is likely to be wanted again.
        _preloaded = tuple(dict.fromkeys((*preload, *(_preloaded or ()))))
        multiprocessing.set_forkserver_preload(["mtp_regression.ranks.preload"])
        log = _log()
        log.unlink(missing_ok=True)
        probe = multiprocessing.get_context("forkserver").Process()
        try:
            with starting():
                probe.start()
            probe.join()
        except BaseException as error:
            _preloaded = None
            if not isinstance(error, OSError | EOFError):
                raise
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            raise PreloadError(
                f"cannot import {' and '.join(preload)} for the ranks:\n" + "\n".join(lines[-_TAIL_LINES:])
            ) from None
        if not log.exists():
            _preloaded = None
            raise PreloadError("a new interpreter cannot import mtp_regression; is it installed there?")
    return time.monotonic() - start


def call(function: Callable[..., Any], *args: Any, device: Device = Device.CPU) -> Any:
    """Calls a function in a process like a rank's: a fork of the server, or for GPUs a new interpreter.

    Args:
        function: A function of an importable module; its arguments and its result are pickled.
        args: Its arguments.
        device: See `starting`.

    Returns:
        The function's result.

    Raises:
        RuntimeError: It raised, or ended the process.
    """
    context: Any = multiprocessing.get_context("spawn" if device.on_gpu else "forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, args))
    with starting(device):
        process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__module__}.{function.__qualname__} gave no result") from None
    finally:
        process.join()


def _answer(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    sender.send(function(*args))


@contextmanager
def starting(device: Device = Device.CPU) -> Iterator[None]:
    """Sets what a new process, or a new server, takes over from this one; processes are started within.

    The server gets its request through the environment. The main module is hidden: each process would import
    it again, and under pytest, whose command is a script, that is all of pytest.

    Args:
        device: What the process is for.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    modules = [*(_preloaded or ()), "mtp_regression.ranks.process"]
    request = json.dumps({"modules": modules, "path": sys.path, "log": str(_log())})
    try:
        with mock.patch.dict(os.environ, device.environment | {"MTP_PRELOAD": request}):
            yield
    finally:
        sys.modules["__main__"] = main


def _log() -> Path:
    """Where the server's output goes; deleted with the process's other temporary files when it ends."""
    return Path(util.get_temp_dir()) / "preload.log"

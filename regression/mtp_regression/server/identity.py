"""Whom a warm server may serve: a caller for whom the import would have come to the same.

What is known before a server is asked makes a key, by which servers are told apart. The rest a server finds
out itself: whether each file that it has imported, and each place where it has looked for one, is as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Any, cast

_NOT_FOR_IMPORTS = frozenset(
    {
        *("_", "OLDPWD", "PWD", "SHLVL"),  # what a shell keeps there for itself
        *("COLUMNS", "LINES", "TERM"),  # of the window, not of what is imported
        *("MTP_PRELOAD", "MTPKIT_SERVER"),  # what a caller's fork server is to do, and whose it is
    }
)
# Read by pytest, which no rank imports, and by an adapter when it is made.
_NOT_FOR_IMPORTS_EITHER = ("PYTEST_", "MTPKIT_MUTANT")
_MODULES = tuple(all_suffixes())
_METADATA = (".dist-info", ".egg-info", ".egg-link", ".pth")

_TICK = 10_000_000  # nanoseconds by which the times of files may lag behind the clock

Stamp = tuple[int, int, int]
"""Time of modification in nanoseconds, size and inode of a file; all -1 if it is not there."""


def key(modules: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a name for the servers that may serve this process, if nothing has changed since they imported.

    Args:
        modules: What a server is to have imported, in this order.
        environment: The environment variables of the caller.
    """
    process = Path("/proc/self")
    (umask,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("Umask"))
    facts = {
        "modules": list(modules),
        "kit": str(Path(__file__).parents[1]),
        "interpreter": [sys.executable, sys.version, *interpreter_flags()],
        "environment": {
            name: value
            for name, value in sorted(environment.items())
            if name not in _NOT_FOR_IMPORTS and not name.startswith(_NOT_FOR_IMPORTS_EITHER)
        },
        # A fork has these of its server.
        "user": [os.getresuid(), os.getresgid(), sorted(os.getgroups()), umask],
        "limits": {
            name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name
        },
        "processors": [sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)],
        "cgroup": (process / "cgroup").read_text(),
        "namespaces": sorted(map(str, (entry.readlink() for entry in (process / "ns").iterdir()))),
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def interpreter_flags() -> list[str]:
    """Return the options that a new interpreter needs to be like this one."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


class Imported:
    """What this process has imported, and where it has looked; to be made before the first import.

    Args:
        path: The folders that are searched.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self._asked = {"sitecustomize", "usercustomize"}
        self._start = time.time_ns() - _TICK
        self._packages = _findable(path, ())
        self._files: dict[str, Stamp] = {}
        self._found: list[tuple[str, list[str]]] = []
        sys.meta_path.insert(0, cast("Any", self))  # has what is asked of a finder

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Note what is looked for, and leave it to the finders behind."""
        self._asked.add(name.partition(".")[0])
        return None

    def end(self, path: Sequence[str]) -> str:
        """Note how all is that was imported; say what may have changed since its import, empty if nothing."""
        sys.meta_path.remove(cast("Any", self))
        files = {os.path.realpath(sys.executable), *filter(None, map(_file, list(sys.modules.values())))}
        self._asked |= {name.partition(".")[0] for name in sys.modules}
        self._files = {file: stamp(file) for file in files}
        self._found = _findable(path, self._asked)
        for file, (time_ns, _, _) in self._files.items():
            if time_ns >= self._start:
                return f"{file} changed while it was imported"
        return "" if _findable(path, ()) == self._packages else "packages were installed meanwhile"

    def changed(self, path: Sequence[str]) -> str:
        """Say what is not as it was for an import along a path; empty if all is."""
        for file, before in self._files.items():
            if stamp(file) != before:
                return f"{file} has changed"
        return "" if _findable(path, self._asked) == self._found else "other modules are found than before"


def _findable(path: Sequence[str], asked: Collection[str]) -> list[tuple[str, list[str]]]:
    """Return which modules are found in each folder, of those asked for, and all metadata of packages.

    A folder without any, as the working folder mostly is, makes no difference.
    """
    found = []
    for folder in path:
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if _matters(entry, asked))
        except OSError:
            continue
        if names:
            found.append((folder, names))
    return found


def _matters(entry: os.DirEntry[str], asked: Collection[str]) -> bool:
    if entry.name.partition(".")[0] in asked:
        return entry.name.endswith(_MODULES) or entry.is_dir()
    return entry.name.endswith(_METADATA)


def stamp(file: str) -> Stamp:
    """Return what tells whether a file is another one than before."""
    try:
        status = os.stat(file)  # noqa: PTH116 - of thousands
    except OSError:
        return (-1, -1, -1)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _file(module: ModuleType) -> str | None:
    # Not by getattr, which would import what a module defers.
    try:
        found = object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:
        return None
    return found if isinstance(found, str) else None

"""Finds modules of deferred packages, has them empty, and imports them at a touch; the package says why."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import tomllib
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from mtp_regression.deferred import stand_in
from mtp_regression.deferred.stand_in import StandIn, real

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SWITCH = "MTPKIT_DEFER"
"""The environment variable that turns it off, if it is 0."""

_THIS = (__file__, stand_in.__file__)

Listed = dict[str, dict[str, dict[str, str]]]
"""Package -> its modules -> the names of these that have stand-ins -> what they are.

What they are: see `stand_in.StandIn`.
"""


@contextmanager
def deferring(listed: Listed | None = None) -> Iterator[None]:
    """Defer packages that are imported for the first time inside the `with` block.

    Args:
        listed: The packages; None for those of `packages.toml`.
    """
    before = set(_deferred)
    if os.environ.get(SWITCH) != "0":
        for name, names in (listed_packages() if listed is None else listed).items():
            if name not in sys.modules and name not in _deferred:
                _deferred[name] = _Package(names)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    try:
        yield
    finally:
        for name in set(_deferred) - before:
            if not _deferred[name].empty:
                del _deferred[name]  # nobody has asked for it


def listed_packages() -> Listed:
    """Read `packages.toml`."""
    packages: Listed = tomllib.loads(
        resources.files(__package__).joinpath("packages.toml").read_text("utf-8")
    )
    return packages


def deferred_packages() -> list[str]:
    """Return the packages that somebody has imported and nobody has touched."""
    return sorted(name for name, package in _deferred.items() if package.empty)


@dataclass
class _Package:
    """A package that nobody has touched."""

    names: Mapping[str, Mapping[str, str]]
    empty: list[str] = field(default_factory=list)  # modules, in the order in which they were imported
    stand_ins: dict[tuple[str, str], StandIn] = field(default_factory=dict)  # by module and name
    touched: bool = False


_deferred: dict[str, _Package] = {}
_to_fill: dict[str, _Empty] = {}  # modules that were empty at a touch, and have not been imported since
_lock = threading.Lock()


def _package_of(module: str) -> str:
    """Return which deferred package a module belongs to; "" if none."""
    return next((name for name in tuple(_deferred) if f"{module}.".startswith(f"{name}.")), "")


class _Finder(MetaPathFinder):
    """Finds modules of deferred packages where Python does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not (_package_of(name) or name in _to_fill):
            return None
        others = (finder for finder in list(sys.meta_path) if finder is not self)
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:  # others cannot fill a module
            spec.loader = _Loader(spec.loader)
        return spec


_finder = _Finder()


class _Loader(Loader):
    """Makes an empty module; after a touch, fills it."""

    def __init__(self, real: SourceFileLoader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _to_fill.get(spec.name) or _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if package := _package_of(name):
            _deferred[package].empty.append(name)
            return
        cast("ModuleSpec", module.__spec__).loader = module.__loader__ = self._real
        self._real.exec_module(module)
        module.__class__ = ModuleType
        _to_fill.pop(name, None)

    def __getattr__(self, name: str) -> Any:  # what else loaders can do, `get_source` for one
        return getattr(self._real, name)


class _Empty(ModuleType):
    """A module that has not been run; an ordinary one once it has.

    Of attributes with two underscores it has those that its spec gives. Who walks over `sys.modules`, as
    `inspect` and `warnings` do, asks for these.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        package = _deferred.get(_package_of(self.__name__))
        if package and (kind := package.names.get(self.__name__, {}).get(name)):
            new = StandIn(self.__name__, name, kind, _touched, lambda: package.touched)
            return package.stand_ins.setdefault((self.__name__, name), new)
        real = _touched(self.__name__)
        # By now its class is another, or it is being run, in this thread: partially initialized.
        return ModuleType.__getattribute__(self, name) if real is self else getattr(real, name)

    def __setattr__(self, name: str, value: object) -> None:
        by_import = name.startswith("__") or sys.modules.get(f"{self.__name__}.{name}") is value
        if not by_import:
            _touched(self.__name__)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _touched(self.__name__)
        ModuleType.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return list(ModuleType.__dir__(_touched(self.__name__)))


def _touched(module: str) -> ModuleType:
    """Import a module whose package is no longer to be deferred."""
    with _lock:
        name = _package_of(module)
        package = _deferred.pop(name, None)
        for empty in package.empty if package else ():
            _to_fill[empty] = cast("_Empty", sys.modules.pop(empty))
    if package is None:
        return importlib.import_module(module)
    package.touched = True
    by = next(frame for frame in reversed(traceback.extract_stack()) if frame.filename not in _THIS)
    sys.stderr.write(f"{name} was deferred, and is used: {module}, by {by.filename}:{by.lineno}\n")
    try:
        return importlib.import_module(module)
    finally:
        for empty in package.empty:
            with suppress(Exception):  # which its own touch raises
                importlib.import_module(empty)
        # Whoever holds a stand-in in a module is given the real thing.
        for holder in list(sys.modules.values()):
            for key, held in list(getattr(holder, "__dict__", {}).items()):
                if type(held) is StandIn and vars(held)["_of"] in package.stand_ins:
                    with suppress(ImportError):  # as above
                        vars(holder)[key] = real(held)

"""Defers imports of packages that a bridge imports and a conversion never uses, until one is used.

Half of the time of `import megatron.bridge` goes into modelopt, diffusers, scipy, datasets and others, of which a
conversion uses nothing. They are not left out, and nothing of an installed package is changed:

- After `deferring`, a module of a listed package is found as ever: one that is not installed is missing as ever.
  But it is not run: who imports it gets the module, empty, or stand-ins for those of its names that are listed.
- Whatever is done with either, but to hold it, is a touch: an attribute, a call, an operator, a base class,
  `hash`, pickle. A touch is Python's own import of the module, with its locks, its order and its errors, into the
  same module object. Then the real thing answers.
- With a touch the whole package is as if it had never been deferred, and each module that holds a stand-in is
  given the real thing.
- Without a touch one question is answered, for it has one answer: nothing is an instance of a class of a package
  that has not been run. (Megatron-Bridge asks it of modelopt for each parameter that it converts.)

Two things remain: an installed package whose import fails does so at the touch, not before; and what an import
does to other packages, it does at the touch. `deferred.toml` is the list. Tests see that it is what the bridge
asks for, that a conversion touches nothing of it, and that reports are the same without it.
"""

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
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SWITCH = "MTPKIT_DEFER"
"""The environment variable that turns it off, if it is 0."""

Listed = dict[str, dict[str, dict[str, str]]]
"""Package -> its modules -> the names of these that have stand-ins -> what they are.

That is "class", "function", or "whether": a function that says whether its argument has an instance of a class of
the package in it.
"""


@contextmanager
def deferring(listed: Listed | None = None) -> Iterator[None]:
    """Defer packages that are imported for the first time inside the `with` block.

    Args:
        listed: The packages; None for those of `deferred.toml`.
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
    """Read `deferred.toml`."""
    packages: Listed = tomllib.loads(resources.files(__package__).joinpath("deferred.toml").read_text("utf-8"))
    return packages


def deferred_packages() -> list[str]:
    """Return the packages that somebody has imported and nobody has touched."""
    return sorted(name for name, package in _deferred.items() if package.empty)


@dataclass
class _Package:
    """A package that nobody has touched."""

    names: Mapping[str, Mapping[str, str]]
    empty: list[str] = field(default_factory=list)  # modules, in the order in which they were imported
    stand_ins: dict[tuple[str, str], _StandIn] = field(default_factory=dict)


_deferred: dict[str, _Package] = {}
_to_fill: dict[str, _Empty] = {}  # modules that were empty at a touch, and have not been imported since
_lock = threading.Lock()


def _package_of(module: str) -> str:
    """Return which deferred package a module belongs to; "" if none."""
    return next((name for name in _deferred if f"{module}.".startswith(f"{name}.")), "")


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
            return package.stand_ins.setdefault((self.__name__, name), _StandIn(self.__name__, name, kind))
        real = _touched(self.__name__)
        # While it is being run, in this thread, it is what Python calls partially initialized.
        return ModuleType.__getattribute__(self, name) if real is self else getattr(real, name)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__") and not isinstance(value, ModuleType):  # which Python's import sets
            _touched(self.__name__)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        _touched(self.__name__)
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return list(ModuleType.__dir__(_touched(self.__name__)))


class _StandIn:
    """A name of an empty module."""

    def __init__(self, module: str, name: str, kind: str) -> None:
        vars(self).update(_stands_for=(module, name), _kind=kind)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        kind = _kind(self)
        return type(_real(self)) if not kind else type if kind == "class" else FunctionType

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_real(self), name, value)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _kind(self) != "whether" and _real(self)(*args, **options)

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_real(self),)

    def __instancecheck__(self, instance: object) -> bool:
        return _kind(self) != "class" and isinstance(instance, _real(self))

    def __subclasscheck__(self, subclass: type) -> bool:
        return _kind(self) != "class" and issubclass(subclass, _real(self))

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, ...]:
        return _attribute, vars(self)["_stands_for"]

    def __getitem__(self, key: Any) -> Any:
        return _real(self)[key]

    def __or__(self, other: Any) -> Any:
        return _real(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | _real(self)

    def __eq__(self, other: object) -> Any:
        return _real(self) == other

    def __hash__(self) -> int:
        return hash(_real(self))

    def __bool__(self) -> bool:
        return bool(_real(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(_real(self))

    def __repr__(self) -> str:
        return repr(_real(self))


def _kind(stand_in: _StandIn) -> str:
    """Return what a stand-in is; "" if the real thing is there to be asked."""
    own = vars(stand_in)
    return str(own["_kind"]) if _package_of(own["_stands_for"][0]) else ""


def _real(stand_in: _StandIn) -> Any:
    return _attribute(*vars(stand_in)["_stands_for"])


def _attribute(module: str, name: str) -> Any:
    try:
        return getattr(_touched(module), name)
    except AttributeError:
        raise ImportError(f"cannot import name {name!r} from {module!r}", name=module) from None


def _touched(module: str) -> ModuleType:
    """Import a module whose package is no longer to be deferred."""
    with _lock:
        name = _package_of(module)
        package = _deferred.pop(name, None)
        for empty in package.empty if package else ():
            _to_fill[empty] = cast("_Empty", sys.modules.pop(empty))
    if package is None:
        return importlib.import_module(module)
    by = next(frame for frame in reversed(traceback.extract_stack()) if frame.filename != __file__)
    sys.stderr.write(f"{name} was deferred, and is used: {module}, by {by.filename}:{by.lineno}\n")
    found = importlib.import_module(module)
    for empty in package.empty:
        with suppress(Exception):  # as each is told when it is touched itself
            importlib.import_module(empty)
    for holder in [*sys.modules.values()]:
        for key, held in [*getattr(holder, "__dict__", {}).items()]:
            if type(held) is _StandIn and vars(held)["_stands_for"][0] in package.empty:
                with suppress(ImportError):
                    vars(holder)[key] = _real(held)
    return found

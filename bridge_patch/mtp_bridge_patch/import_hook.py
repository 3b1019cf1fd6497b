"""Run code right after a certain module is imported, without importing it.

Importing Megatron-Bridge takes some twenty seconds, and a script may have to prepare for it first.
"""

import importlib.abc
import itertools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the finders behind it find one module, and adds an action to its execution."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        behind = itertools.islice(itertools.dropwhile(lambda f: f is not self, sys.meta_path), 1, None)
        specs = (finder.find_spec(fullname, path, target) for finder in behind)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._extend(spec.loader)
        return spec

    def _extend(self, loader: importlib.abc.Loader) -> None:
        # A loader belongs to one spec. An attribute of that one object, removed when it is used, leaves its
        # class and all that asks the loader for source or resources alone, which a wrapping object would not.
        # Another finder for the same module may have left one there before.
        execute = loader.exec_module
        others = vars(loader).get("exec_module")

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            if others is not None:
                loader.exec_module = others  # type: ignore[method-assign]
            execute(module)
            self._action(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]


def after_import(name: str, action: Callable[[ModuleType], None]) -> Callable[[], None]:
    """Call ``action`` with the module ``name``: at once if it is imported, and after each import to come.

    Args:
        name: Full name of the module.
        action: What to do with the module. An error that it raises fails the import.

    Returns:
        What ends it; modules seen until then keep what the action did to them.
    """
    if (module := sys.modules.get(name)) is not None:
        action(module)
    finder = _Finder(name, action)
    sys.meta_path.insert(0, finder)
    return lambda: sys.meta_path.remove(finder)

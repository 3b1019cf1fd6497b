"""What a warm server may import for a caller: what comes first anyway, and stays as it is from run to run."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_KIT = f"{__name__.partition('.')[0]}."
_ADAPTERS = f"{_KIT}adapters."


def stable(modules: Sequence[str]) -> list[str]:
    """Return what a warm server is to import, before all others, which its forks import.

    That is an adapter of the kit if there is one, for these are made to come before Megatron and
    transformers; or else what comes first anyway. A module that is neither the kit's nor installed is being
    written: then that is what it imports at its very beginning.

    Args:
        modules: What every rank needs, in the order of the import.
    """
    adapters = [module for module in modules if module.startswith(_ADAPTERS)]
    for module in (adapters or list(modules))[:1]:
        return [module] if _is_stable(module) else list(dict.fromkeys(_first_imports(module)))
    return []


def _first_imports(module: str) -> Iterator[str]:
    """Yield what a module, and before it its packages, begin by importing, as long as that is stable."""
    for source in _sources(module):
        try:
            statements = ast.parse(source.read_bytes()).body
        except (SyntaxError, ValueError):  # the ranks will say it
            return
        for statement in statements:
            match statement:
                case ast.Expr(value=ast.Constant()):  # a docstring
                    continue
                case ast.ImportFrom(module=str(name), level=0):
                    names = [name]
                case ast.Import(names=aliases):
                    names = [alias.name for alias in aliases]
                case _:
                    return
            for name in names:
                if not _is_stable(name):
                    return
                if not _is_of_python(name):
                    yield name


def _sources(module: str) -> Iterator[Path]:
    """Yield the files that are run when a module is imported: its packages', then its own."""
    path: Sequence[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return
        if spec.origin and spec.origin.endswith(".py"):
            yield Path(spec.origin)
        path = spec.submodule_search_locations


def _is_stable(module: str) -> bool:
    return module.startswith(_KIT) or _is_of_python(module) or _is_installed(module)


def _is_of_python(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _is_installed(module: str) -> bool:
    spec = PathFinder.find_spec(module.partition(".")[0])
    return spec is not None and all(
        place.startswith((sysconfig.get_path("platlib"), sysconfig.get_path("purelib")))
        for place in _places(spec)
    )


def _places(spec: ModuleSpec) -> Sequence[str]:
    """Return a module's file, or the folders of a package that has none, as `megatron`."""
    return [spec.origin] if spec.origin else list(spec.submodule_search_locations or ["built in"])

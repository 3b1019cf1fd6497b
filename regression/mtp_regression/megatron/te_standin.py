"""A stand-in for TransformerEngine: its modules' parameters, and no computation.

TransformerEngine has no build for machines without CUDA, but a conversion never runs a forward
pass: all that a bridge needs from it is modules that hold parameters of the right name, shape,
dtype and tensor-parallel attributes. Parameters are left uninitialised; the caller fills them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch

from mtp_regression.megatron.te_base import Empty
from mtp_regression.megatron.te_modules import PROVIDED

PACKAGE = "transformer_engine"
VERSION = "2.10.0"
"""The version that it reports: recent enough for the newest code paths of Megatron-Core 0.17 to 0.19."""


def install() -> bool:
    """Make `import transformer_engine` give the stand-in, unless the real package can be used.

    Returns:
        Whether the stand-in is in use, now or from an earlier call.
    """
    module = sys.modules.get(PACKAGE)
    if module is not None:
        return isinstance(module, _StandInModule)
    if torch.cuda.is_available() and _can_import_real():
        return False
    sys.meta_path.insert(0, _Finder())
    importlib.import_module(PACKAGE)
    return True


def _can_import_real() -> bool:
    try:
        importlib.import_module(f"{PACKAGE}.pytorch")
    except (ImportError, OSError):  # not there, or built for another CUDA
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        return False
    return True


def describe() -> str:
    """Return which TransformerEngine this process has imported: "stand-in", its version, or "none"."""
    module = sys.modules.get(PACKAGE)
    if module is None:
        return "none"
    return "stand-in" if isinstance(module, _StandInModule) else str(module.__version__)


class _StandInModule(ModuleType):
    """A module that has every attribute: what `te_modules` provides, or else an empty class or a module.

    A capitalised name becomes a subclass of `Empty`. Any other may be a function or a submodule, so it
    becomes a module that can be called, which raises RuntimeError.
    """

    __version__ = VERSION

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value: Any
        if name in PROVIDED:
            value = PROVIDED[name]
        elif name.lstrip("_")[:1].isupper():
            value = type(name, (Empty,), {"__module__": self.__name__})
        else:
            value = importlib.import_module(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError(f"{self.__name__}: the stand-in for TransformerEngine computes nothing")


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname.partition(".")[0] != PACKAGE:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        del module

"""What the suite asks of a bridge, as one rank sees it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from mtp_regression.ranks.parallel import Coordinates, Parallel


class AdapterError(ValueError):
    """A name that is no adapter's; the message says why."""


class Adapter(Protocol):
    """A bridge under test. One object serves one case on one rank; every call is made by all ranks.

    Attributes:
        bridge: Name of the bridge, as declared exceptions spell it.
        release: Its release.
        engine: Where the modules' parameters come from, such as a release of TransformerEngine.

    Two attributes may be left out. `vocab_divisor`, of an adapter that pads the vocabulary, is Megatron's
    `make_vocab_size_divisible_by`. `refusals` are classes of exceptions by which the bridge says, before it
    loads anything, that it cannot carry the checkpoint; the patch's own are known without it.
    """

    bridge: str
    release: str
    engine: str

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model, fill every parameter with NaN, then load the checkpoint."""

    def coordinates(self) -> Coordinates:
        """Return this rank's place in the parallel layout."""

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield this rank's parameters: Megatron-Core's names behind "{chunk}/", and tensors."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Yield the model in the checkpoint's format: names and tensors."""

    def save(self, folder: Path) -> None:
        """Write the model into a folder, in the checkpoint's format."""

    def warnings(self) -> list[str]:
        """Return what the bridge has warned of so far."""

    def close(self) -> None:
        """Give back what `load` took, so that another case can run in the process."""


def find(name: str) -> type[Adapter]:
    """Import an adapter class.

    Args:
        name: "package.module:Class".

    Raises:
        AdapterError: The name is not of that form, the module has no such class, or the class lacks a method.
        ImportError: There is no such module, or it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise AdapterError(f"an adapter is named package.module:Class, not {name!r}")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, type):
        raise AdapterError(f"{module} has no class {attribute}")
    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if missing:
        raise AdapterError(f"{name} is no adapter; it has no {', '.join(missing)}")
    return cast(type[Adapter], found)


def problem_of(name: str) -> str:
    """Say why `find` does not find an adapter; empty if it does."""
    try:
        find(name)
    except (AdapterError, ImportError) as error:
        return str(error)
    return ""


_METHODS = tuple(
    method for method, of in vars(Adapter).items() if inspect.isfunction(of) and not method.startswith("_")
)

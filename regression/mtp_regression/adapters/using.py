"""How the suite uses an adapter: role by role, each in the bridge's own context."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtp_regression.adapters.find import find
from mtp_regression.ranks.parallel import Parallel


class Used:
    """An adapter's object, whose roles are called as `adapters.protocol` says.

    What is not defined here is the object's own.
    """

    def __init__(self, adapter: Any, world: Any = None) -> None:
        """Make the object, if it is not made.

        Args:
            adapter: The name of its class (see `find`), or an object of it.
            world: This rank.
        """
        made: Any = find(adapter)() if isinstance(adapter, str) else adapter
        made.world = world
        self.adapter = made

    def has(self, role: str) -> bool:
        """Whether the adapter has a role that it may lack."""
        return callable(getattr(self.adapter, role, None))

    @property
    def has_oracle(self) -> bool:
        """Whether the bridge's model is one that the oracle knows: it tells of its place in the layout."""
        return self.has("coordinates")

    def begin(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model, and load the checkpoint."""
        self.build(checkpoint, parallel)
        self.load(checkpoint)

    def build(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model, every parameter NaN."""
        self._start(parallel)
        with self._running():
            self.adapter.model = self.adapter.build(checkpoint, parallel)
        poison(self.parameters())

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model, and load it from Megatron's checkpoint."""
        self._start(parallel)
        with self._running():
            self.adapter.model = self.adapter.load_megatron(folder, checkpoint, parallel)

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the rank's parameters, under the names that the suite takes for the adapter's."""
        renamed: Mapping[str, str] = getattr(self.adapter, "renamed", {})
        for name, parameter in self._call(self.adapter.parameters):
            chunk, slash, own = name.partition("/")
            for old, new in renamed.items():
                if own.startswith(old):
                    own = new + own.removeprefix(old)
                    break
            yield chunk + slash + own, parameter

    def warnings(self) -> list[str]:
        """Return the bridge's warnings so far."""
        return self._optional("warnings")() or []

    def close(self) -> None:
        """Have the bridge give back what it took."""
        self._optional("close")()

    def _start(self, parallel: Parallel) -> None:
        with self._running():
            self._optional("start")(parallel)

    def _optional(self, role: str) -> Callable[..., Any]:
        return getattr(self.adapter, role, _nothing)

    def _running(self) -> AbstractContextManager[Any]:
        running = getattr(self.adapter, "running", nullcontext)
        context: AbstractContextManager[Any] = running()
        return context

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.adapter, name)
        return partial(self._call, found) if callable(found) and not isinstance(found, type) else found

    def _call(self, role: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with self._running():
            result = role(*args, **options)
        return self._each(result) if isinstance(result, Iterator) else result

    def _each(self, items: Iterator[Any]) -> Iterator[Any]:
        """Hand an iterator's items on; between two of them the bridge's context is left."""
        try:
            while True:
                with self._running():
                    item = next(items, _END)
                if item is _END:
                    return
                yield item
        finally:
            if close := getattr(items, "close", None):  # as the interpreter does with what is left
                with self._running():
                    close()


def poison(parameters: Iterable[tuple[str, Any]]) -> None:
    """Fill `torch.Tensor`s and arrays of floating-point numbers with NaN."""
    for _, parameter in parameters:
        if isinstance(parameter, np.ndarray):
            parameter[...] = math.nan
        elif parameter.is_floating_point():
            parameter.detach().fill_(math.nan)


def _nothing(*_arguments: Any) -> None:
    """Stand for a role that an adapter does without."""


_END = object()

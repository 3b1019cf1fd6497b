"""Where a rank's time goes: seconds by step, from its start to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

WAIT = "wait"
"""The step of a rank that waits for the others."""


class Ledger:
    """Seconds of one rank by step; each moment is booked once.

    A step within a step is "outer.inner", and its seconds are not the outer one's.

    Attributes:
        seconds: By step, in the order in which they ended; a step taken again is added.
        until: When the last step ended: a time of `time.monotonic`, which all processes of a machine share.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.seconds: dict[str, float] = {}
        self.until = time.monotonic()
        self._open: list[str] = []

    def since(self, moment: float, name: str) -> None:
        """Book what has passed since a moment, before any step, as one."""
        self.until = moment
        self._book(name)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Book what a `with` block takes; what came between two steps is the outer one's."""
        self._book(".".join(self._open))
        self._open.append(name)
        try:
            yield
        finally:
            self._book(".".join(self._open))
            self._open.pop()

    def _book(self, name: str) -> None:
        now = time.monotonic()
        if name:
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self.until
        self.until = now


def waited(seconds: Mapping[str, float]) -> float:
    """Return how long a rank has waited for others, of its seconds by step."""
    return sum(took for name, took in seconds.items() if name.split(".")[-1] == WAIT)


def outermost(ledgers: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add ledgers up by outermost steps: those that took most come first."""
    found: dict[str, float] = {}
    for name, took in (entry for ledger in ledgers for entry in ledger.items()):
        outer = name.partition(".")[0]
        found[outer] = found.get(outer, 0.0) + took
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))

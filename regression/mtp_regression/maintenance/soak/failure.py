"""A failure of one rank: where it is, of which kind, and what it should come to in each stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mtp_regression.stages.case import ONE_LAYOUT, Stage

KINDS: Mapping[str, str] = {
    "raise": "raised",
    "exit": "died",
    "kill": "died",
    "torn": "died",
    "hang": "timeout",
}
"""Kinds of failures, and of the crash that each is to be.

They are an exception, an exit, SIGKILL, the same when half of a file is written, a sleep without end.
"""

USES: Mapping[str, tuple[Stage, ...]] = {
    "load": ONE_LAYOUT,
    "parameters": (Stage.NATIVE, Stage.STREAM, Stage.SAVED, Stage.FORWARD, Stage.RETRAINED),
    "stream": (Stage.STREAM, Stage.RETRAINED, Stage.RELOADED),
    "save": (Stage.SAVED, Stage.FILES, Stage.RETRAINED, Stage.RELOADED),
    "reload": (Stage.RELOADED,),
}
"""Methods of an adapter, and the stages that call them."""

_NAME = re.compile(
    rf"(?P<patched>Patched)?(?P<place>{'|'.join(USES)})_(?P<kind>{'|'.join(KINDS)})_(?P<rank>\d)_(?P<after>\d+)"
)


@dataclass(frozen=True)
class Failure:
    """A failure.

    Attributes:
        place: The method in which it is.
        kind: One of `KINDS`.
        rank: The rank that fails.
        after: How many tensors the method has yielded before; of a method that yields none, 0 is before its
            work, and more is after that.
        patched: Whether the bridge is patched.
    """

    place: str
    kind: str
    rank: int
    after: int
    patched: bool

    def __str__(self) -> str:
        """Name the adapter's class in `soak.adapter`."""
        prefix = "Patched" if self.patched else ""
        return f"{prefix}{self.place}_{self.kind}_{self.rank}_{self.after}"

    @classmethod
    def parse(cls, name: str) -> Failure | None:
        """Read the name of an adapter's class; None if it is no failure's."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        place, kind, rank, after = match["place"], match["kind"], int(match["rank"]), int(match["after"])
        return cls(place, kind, rank, after, bool(match["patched"]))

    def crash(self, stage: Stage) -> tuple[Stage, int, str] | None:
        """Return stage, rank and kind of the crash that a stage is to end in; None if in none."""
        if stage not in USES[self.place]:
            return None
        return (Stage.LOAD if self.place == "load" else stage), self.rank, KINDS[self.kind]

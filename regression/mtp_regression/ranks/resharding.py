"""Two parallel layouts, one after the other, of a Megatron checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mtp_regression.ranks.parallel import Parallel

_TO = " to "


@dataclass(frozen=True)
class Resharding:
    """A Megatron checkpoint that is saved in one layout and loaded in another.

    Both have as many ranks as the least common multiple of theirs; what a layout does not need are replicas.

    Attributes:
        before: In which it is saved.
        after: In which it is loaded.
    """

    before: Parallel
    after: Parallel

    def __post_init__(self) -> None:
        ranks = math.lcm(self.before.ranks, self.after.ranks)
        for name in ("before", "after"):
            object.__setattr__(self, name, replace(getattr(self, name), ranks=ranks))

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self.after.ranks

    def __str__(self) -> str:
        before, after = (replace(layout, ranks=0) for layout in (self.before, self.after))
        if math.lcm(before.ranks, after.ranks) != self.ranks:  # more were asked for
            before, after = self.before, self.after
        return f"{before}{_TO}{after}"


def read_layout(text: str) -> Parallel | Resharding:
    """Read a parallel layout (see `Parallel.parse`), or two with "to" between them, such as "ep2 to tp2".

    Raises:
        ValueError: It is neither.
    """
    before, to, after = text.partition(_TO)
    return Resharding(Parallel.parse(before), Parallel.parse(after)) if to else Parallel.parse(before)

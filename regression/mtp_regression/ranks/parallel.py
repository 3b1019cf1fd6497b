"""Parallel layouts: how many ranks a model is split over, and how."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """A parallel layout, in Megatron-Core's terms.

    Attributes:
        tp: Tensor-parallel size.
        pp: Pipeline-parallel size.
        vpp: Virtual pipeline stages on each rank (model chunks).
        ep: Expert-parallel size.
        etp: Expert-tensor-parallel size.
        ranks: Number of ranks; 0 takes the fewest that the other sizes allow.
    """

    tp: int = 1
    pp: int = 1
    vpp: int = 1
    ep: int = 1
    etp: int = 1
    ranks: int = 0

    def __post_init__(self) -> None:
        fewest = self.pp * math.lcm(self.tp, self.ep * self.etp)
        if not self.ranks:
            object.__setattr__(self, "ranks", fewest)
        if self.ranks % fewest:
            raise ValueError(f"{self.ranks} ranks cannot hold {self}: it takes a multiple of {fewest}")
        if self.vpp > 1 and self.pp == 1:
            raise ValueError("virtual pipeline stages need at least two pipeline stages")

    @classmethod
    def parse(cls, text: str) -> Parallel:
        """Read a layout as it is printed: "tp2 pp2 ep2 ranks8" (or joined by dashes), "tp1".

        Raises:
            ValueError: A word is not one of the sizes, or the sizes do not fit.
        """
        sizes: dict[str, int] = {}
        names = "|".join(field.name for field in fields(cls))
        for word in re.split(r"[\s,-]+", text.strip()):
            match = re.fullmatch(rf"({names})([1-9]\d*)", word)
            if match is None or match[1] in sizes:
                raise ValueError(f"not a parallel layout: {text!r}; write it like 'tp2 pp2 ep2 ranks8'")
            sizes[match[1]] = int(match[2])
        return cls(**sizes)

    def __str__(self) -> str:
        sizes = [f"{name}{size}" for name, size in self._sizes().items() if size > 1]
        if self.ranks != self.pp * math.lcm(self.tp, self.ep * self.etp):
            sizes.append(f"ranks{self.ranks}")
        return " ".join(sizes) or "tp1"

    def _sizes(self) -> dict[str, int]:
        return {"tp": self.tp, "pp": self.pp, "vpp": self.vpp, "ep": self.ep, "etp": self.etp}


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """The place of one rank in a parallel layout: its rank in each group, from 0."""

    tp: int = 0
    pp: int = 0
    ep: int = 0
    etp: int = 0


GRID = (
    Parallel(),
    Parallel(tp=2),
    Parallel(pp=2),
    Parallel(pp=2, vpp=2),
    Parallel(ep=2),
    Parallel(tp=2, ep=2),
    Parallel(tp=2, etp=2),
    Parallel(ep=4),
    Parallel(tp=2, pp=2),
    Parallel(pp=2, ep=2),
    Parallel(ep=2, etp=2),
    Parallel(ep=8),
    Parallel(tp=2, pp=2, ep=2, ranks=8),
)
"""The parallel layouts of the main job; each divides the tiny geometry."""

DENSE_GRID = tuple(parallel for parallel in GRID if parallel.ep == parallel.etp == 1)
"""Those of `GRID` without expert parallelism, for dense models."""

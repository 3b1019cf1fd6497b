"""Verdicts on a tensor and on a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The result for a tensor, or for a case the worst of its tensors; mildest first.

    Attributes:
        EXACT: Same name, shape, dtype and bytes.
        FLIP: The right values, written in another expert layout.
        DTYPE: Equal values in another dtype.
        UNEXPECTED: A tensor that the source does not have, or one that occurs more than once.
        BOTH_LAYOUTS: Experts that are exported in their own layout and in another one as well.
        MISSING: A tensor of the source that is missing.
        DIFFERS: Logits that differ from the reference by more than float32 explains.
        WRONG: Other values, or another shape.
        POISONED: NaN where the source has a number: elements that were never loaded.
        REFUSED: The bridge refused the checkpoint, with an error of its own, before anything was loaded.
        CRASH_EXPORT: The bridge raised an error, or reached the time limit, during the export.
        CRASH_IMPORT: The same while the model was built or loaded.
    """

    EXACT = "exact"
    FLIP = "flip"
    DTYPE = "dtype"
    UNEXPECTED = "unexpected"
    BOTH_LAYOUTS = "both-layouts"
    MISSING = "missing"
    DIFFERS = "differs"
    WRONG = "wrong"
    POISONED = "poisoned"
    REFUSED = "refused"
    CRASH_EXPORT = "crash-export"
    CRASH_IMPORT = "crash-import"

    @property
    def severity(self) -> int:
        """Position in the order of the verdicts; 0 for exact."""
        return list(Verdict).index(self)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the most severe verdict; EXACT if there are none."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=Verdict.EXACT)


@dataclass(frozen=True)
class Finding:
    """A tensor that is not exact.

    Attributes:
        tensor: Its key in the checkpoint, or the name of a parameter in Megatron-Core.
        verdict: What is wrong with it.
        detail: The first difference, as text.
        origin: What the tensor holds instead, as a sentence; empty if nobody knows.
        rank: The rank of a parameter; None for an exported tensor, which all ranks have.
        chunk: The model chunk of a parameter; None for an exported tensor.
        declared: Whether the bridge declares it.
    """

    tensor: str
    verdict: Verdict
    detail: str = ""
    origin: str = ""
    rank: int | None = None
    chunk: int | None = None
    declared: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Finding:
        """Make one of the fields that `dataclasses.asdict` gave, read back from JSON."""
        return cls(**{**fields, "verdict": Verdict(fields["verdict"])})

    @property
    def order(self) -> tuple[int, int, str]:
        """Sort key: rank, model chunk, name."""
        return self.rank or 0, self.chunk or 0, self.tensor

    def on_rank(self, rank: int) -> Finding:
        """Give the same finding, as one of a rank."""
        return replace(self, rank=rank)

    def __str__(self) -> str:
        places = {"rank": self.rank, "chunk": self.chunk}
        where = "".join(f"{what} {number}, " for what, number in places.items() if number is not None)
        return f"{where}{self.tensor}: {self.origin or self.detail or self.verdict}"

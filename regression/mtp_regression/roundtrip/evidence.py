"""The evidence on a case: what its ranks left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtp_regression.reporting.record import Crash
from mtp_regression.stages.case import About, Outcome, Stage


@dataclass
class Evidence:
    """What the ranks of a case left behind.

    Attributes:
        about: Which bridge it was; None if no rank came so far.
        outcomes: Every rank's outcome of each stage that all of them ended.
        crashes: Of each stage that did not end, why: itself, or the load before it.
        seconds: What the case took, from the start of its ranks to the end.
        steps: Where that went, by step, on the rank that waited least for others; see `ranks.ledger.Ledger`.
        logs: The ranks' logs.
    """

    about: About | None = None
    outcomes: dict[Stage, list[Outcome]] = field(default_factory=dict)
    crashes: dict[Stage, Crash] = field(default_factory=dict)
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    logs: Sequence[Path] = ()

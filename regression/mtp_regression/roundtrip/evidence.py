"""The evidence on a case: what its ranks left behind, and why a stage did not end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.stages.case import About, Outcome, Stage


@dataclass(frozen=True)
class Crash:
    """Why a stage did not end.

    Attributes:
        stage: The stage.
        rank: The rank that failed first; after a time-out, the first that did not wait for another rank.
        kind: "raised" an exception, "died" without one, or "timeout".
        exception: Name of the exception's class, with its module; empty without one.
        message: What the exception says; without one, in a sentence how the rank ended.
        refused: Whether the exception is the bridge's refusal of the checkpoint, before anything was loaded.
        text: All that is known: the traceback, the end of the log or the stacks, and where the logs are.
    """

    stage: Stage
    rank: int
    kind: str
    exception: str
    message: str
    refused: bool
    text: str

    @property
    def verdict(self) -> Verdict:
        """What the stage, and every stage that needed it, comes to."""
        if self.refused:
            return Verdict.REFUSED
        return Verdict.CRASH_IMPORT if self.stage is Stage.LOAD else Verdict.CRASH_EXPORT


@dataclass
class Evidence:
    """What the ranks of a case left behind.

    Attributes:
        about: Which bridge it was; None if no rank came so far.
        outcomes: Every rank's outcome of each stage that all of them ended.
        crashes: Of each stage that did not end, why: itself, or the load before it.
        seconds: What the case took, from the start of its ranks to the end.
        logs: The ranks' logs.
    """

    about: About | None = None
    outcomes: dict[Stage, list[Outcome]] = field(default_factory=dict)
    crashes: dict[Stage, Crash] = field(default_factory=dict)
    seconds: float = 0.0
    logs: Sequence[Path] = ()

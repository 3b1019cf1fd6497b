"""Cases of the round trip, and the evidence that their ranks leave: data, and no action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mtp_fixtures import CheckpointSpec
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.parallel import Parallel


class Stage(StrEnum):
    """A step of a case, in the order in which a rank takes them.

    Attributes:
        LOAD: Build the model, poison it, load the checkpoint.
        NATIVE: Compare the parameters on the rank with what the oracle expects.
        STREAM: Compare the streamed export with the checkpoint.
        SAVED: Compare the saved folder with the checkpoint.
    """

    LOAD = "load"
    NATIVE = "native"
    STREAM = "stream"
    SAVED = "saved"


EXPORTS = (Stage.NATIVE, Stage.STREAM, Stage.SAVED)


@dataclass(frozen=True)
class About:
    """Which bridge a case ran.

    Attributes:
        bridge: Name of the bridge.
        release: Its release.
        engine: Where its modules came from.
    """

    bridge: str
    release: str
    engine: str


@dataclass
class Outcome:
    """What one rank found in one stage.

    Attributes:
        compared: Number of tensors that were to be found.
        findings: Those that are not exact, and those that were not to be found.
        warnings: What the bridge has warned of up to here.
        seconds: What the stage took on this rank.
        peak_gpu_bytes: The most that torch had allocated on the rank's GPU by the end of the stage.
    """

    compared: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_gpu_bytes: int = 0


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
        """What the stage, and every export that needed it, comes to."""
        if self.refused:
            return Verdict.REFUSED
        return Verdict.CRASH_IMPORT if self.stage is Stage.LOAD else Verdict.CRASH_EXPORT


@dataclass(frozen=True)
class Case:
    """One checkpoint through one bridge in one parallel layout.

    Attributes:
        adapter: See `adapters.protocol.find`.
        checkpoint: The checkpoint's folder.
        parallel: The parallel layout.
        name: The checkpoint's name, by which the report knows it; empty takes the folder's.
        generated: What makes the tensors, if the files of the folder have headers and no data.
    """

    adapter: str
    checkpoint: Path
    parallel: Parallel
    name: str = ""
    generated: CheckpointSpec | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.checkpoint.name)

    @property
    def folder_name(self) -> str:
        """A folder for the case, relative to the run's."""
        return f"{self.name}/{str(self.parallel).replace(' ', '-')}"


@dataclass
class Evidence:
    """What the ranks of a case left behind.

    Attributes:
        about: Which bridge it was; None if no rank came so far.
        outcomes: Every rank's outcome of each stage that all of them ended.
        crashes: Of each export that did not end, why: itself, or the load before it.
        seconds: What the case took, from the start of its ranks to the end.
        logs: The ranks' logs.
    """

    about: About | None = None
    outcomes: dict[Stage, list[Outcome]] = field(default_factory=dict)
    crashes: dict[Stage, Crash] = field(default_factory=dict)
    seconds: float = 0.0
    logs: Sequence[Path] = ()

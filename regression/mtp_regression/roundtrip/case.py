"""Cases of the round trip, and the evidence that their ranks leave: data, and no action."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.parallel import Parallel

_ABOUT = "about.json"


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

    @classmethod
    def read(cls, folder: Path) -> About | None:
        """Read what rank 0 wrote, or None if it came to nothing."""
        path = folder / _ABOUT
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, folder: Path) -> None:
        """Leave this behind in a folder."""
        (folder / _ABOUT).write_text(json.dumps(asdict(self)), encoding="utf-8")


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

    @classmethod
    def read(cls, folder: Path, stage: Stage, rank: int) -> Outcome | None:
        """Read what a rank left behind, or None if it did not end the stage."""
        path = _outcome_path(folder, stage, rank)
        if not path.exists():
            return None
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields["findings"] = [
            Finding(found["tensor"], Verdict(found["verdict"]), found["detail"])
            for found in fields["findings"]
        ]
        return cls(**fields)

    def write(self, folder: Path, stage: Stage, rank: int) -> None:
        """Leave this behind in a folder."""
        _outcome_path(folder, stage, rank).write_text(json.dumps(asdict(self)), encoding="utf-8")


def _outcome_path(folder: Path, stage: Stage, rank: int) -> Path:
    return folder / f"{stage}.rank{rank}.json"


@dataclass(frozen=True)
class Case:
    """One checkpoint through one bridge in one parallel layout.

    Attributes:
        adapter: See `adapters.protocol.find`.
        checkpoint: The checkpoint's folder; its name is the checkpoint's name.
        parallel: The parallel layout.
    """

    adapter: str
    checkpoint: Path
    parallel: Parallel

    @property
    def folder_name(self) -> str:
        """A folder for the case, relative to the run's."""
        return f"{self.checkpoint.name}/{str(self.parallel).replace(' ', '-')}"


@dataclass
class Evidence:
    """What the ranks of a case left behind.

    Attributes:
        about: Which bridge it was; None if no rank came so far.
        outcomes: Every rank's outcome of each stage that all of them ended.
        crashes: Why the others did not end.
        seconds: What the case took, from the start of its ranks to the end.
        logs: The ranks' logs.
    """

    about: About | None = None
    outcomes: dict[Stage, list[Outcome]] = field(default_factory=dict)
    crashes: dict[Stage, str] = field(default_factory=dict)
    seconds: float = 0.0
    logs: Sequence[Path] = ()

    def read(self, folder: Path, ranks: int) -> None:
        """Take in what the ranks wrote into a folder."""
        self.about = About.read(folder) or self.about
        for stage in Stage:
            outcomes = [Outcome.read(folder, stage, rank) for rank in range(ranks)]
            ended = [outcome for outcome in outcomes if outcome is not None]
            if len(ended) == ranks:
                self.outcomes[stage] = ended

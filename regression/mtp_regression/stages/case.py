"""Cases of the round trip, their stages, and what a rank finds in one: data, and no action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec
from mtp_regression.comparison.verdicts import Finding
from mtp_regression.ranks.parallel import Parallel, Resharding


class Stage(StrEnum):
    """A step of a case, in the order in which a rank takes them.

    Attributes:
        LOAD: Build the model, poison it, load the checkpoint.
        NATIVE: Compare the parameters on the rank with what the oracle expects.
        STREAM: Compare the streamed export with the checkpoint.
        SAVED: Compare the saved folder with the checkpoint.
        FILES: Compare what is beside the weights, and look at index and modes; save twice.
        FORWARD: Compare the logits that the model computes with transformers'.
        RETRAINED: Give every parameter another value, and compare both exports with those.
        RELOADED: Load other checkpoints into the model, and compare both exports with each.
        RESHARDED: Save the model as Megatron's checkpoint, load that in another layout, and compare what the
            ranks hold and both exports.
        REFUSED: Of a checkpoint that contradicts itself: see that the bridge does not load it, and says why.
    """

    LOAD = "load"
    NATIVE = "native"
    STREAM = "stream"
    SAVED = "saved"
    FILES = "files"
    FORWARD = "forward"
    RETRAINED = "retrained"
    RELOADED = "reloaded"
    RESHARDED = "resharded"
    REFUSED = "refused"


CHECKS = tuple(stage for stage in Stage if stage is not Stage.LOAD)
"""The stages that find something; each begins with the model as it was loaded."""

ONE_LAYOUT = tuple(stage for stage in CHECKS if stage not in (Stage.RESHARDED, Stage.REFUSED))
"""Those of a case in one parallel layout; one with two layouts takes RESHARDED alone, and one of a checkpoint
that is to be refused REFUSED."""

NEEDS: Mapping[Stage, str] = {
    Stage.NATIVE: "coordinates",
    Stage.STREAM: "stream",
    Stage.SAVED: "save",
    Stage.FILES: "save",
    Stage.FORWARD: "logits",
    Stage.RELOADED: "reload",
    Stage.RESHARDED: "load_megatron",
}
"""The method that an adapter may lack and a stage needs."""

SAVING = frozenset({Stage.SAVED, Stage.FILES, Stage.RETRAINED, Stage.RELOADED, Stage.RESHARDED})
"""The stages that have the bridge save, if it does."""


def stages_of(parallel: Parallel | Resharding, stages: Sequence[Stage]) -> list[Stage]:
    """Return those of some stages that a case takes."""
    its = (Stage.RESHARDED,) if isinstance(parallel, Resharding) else ONE_LAYOUT
    return [stage for stage in stages if stage in its]


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
        agreement: Of the stage FORWARD: the largest difference of logits, of their spread, by name.
    """

    compared: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_gpu_bytes: int = 0
    agreement: dict[str, float] = field(default_factory=dict)

    def __iadd__(self, other: Outcome) -> Outcome:
        """Add what else was compared in the stage."""
        self.compared += other.compared
        self.findings += other.findings
        return self

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Outcome:
        """Make one of the fields that `dataclasses.asdict` gave, read back from JSON.

        Raises:
            KeyError, TypeError, ValueError: They are something else.
        """
        return cls(**{**fields, "findings": [Finding.of(finding) for finding in fields["findings"]]})


@dataclass(frozen=True)
class Case:
    """One checkpoint through one bridge in one parallel layout.

    Attributes:
        adapter: See `adapters.find.find`.
        checkpoint: The checkpoint's folder.
        parallel: The parallel layout, or the two for a Megatron checkpoint.
        name: The checkpoint's name, by which the report knows it; empty takes the folder's.
        generated: What makes the tensors, if the files of the folder have headers and no data.
        wrong: Of a checkpoint that contradicts itself: words of which the bridge's error has to have one,
            such as the keys and layers that are wrong.
    """

    adapter: str
    checkpoint: Path
    parallel: Parallel | Resharding
    name: str = ""
    generated: CheckpointSpec | None = None
    wrong: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.checkpoint.name)

    @property
    def folder_name(self) -> str:
        """A folder for the case, relative to the run's, of characters that every file system takes."""
        return f"{self.name}/{self._layout}"

    def check(self, stage: Stage) -> str:
        """Return the id of one of its checks, such as "packed-tp2-ep2::stream"."""
        return f"{self.name}-{self._layout}::{stage}"

    @property
    def _layout(self) -> str:
        return str(self.parallel).translate(_IN_FILE_NAMES)

    def takes(self, stages: Sequence[Stage]) -> list[Stage]:
        """Return those of some stages that the case takes."""
        return [Stage.REFUSED] if self.wrong else stages_of(self.parallel, stages)


_IN_FILE_NAMES = str.maketrans({" ": "-", "|": ".", "*": "x"})

"""What became of one stage of one case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.stages.case import Stage


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


@dataclass(frozen=True)
class Record:
    """The outcome of one stage of one case; `docs/report.md` describes the fields."""

    bridge: str
    engine: str
    checkpoint: str
    parallel: str
    ranks: int
    stage: str
    check: str
    verdict: Verdict
    declared: int
    seconds: float
    case_seconds: float
    compared: int = 0
    load_seconds: float = 0.0
    case_steps: dict[str, float] = field(default_factory=dict)
    peak_gpu_bytes: int = 0
    agreement: dict[str, float] = field(default_factory=dict)
    tensors: list[Finding] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    crash: Crash | None = None
    warnings: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Record:
        """Make one of a record of a report's JSON."""
        crash = fields["crash"]
        read = {
            "verdict": Verdict(fields["verdict"]),
            "agreement": {name: math.inf if n is None else n for name, n in fields["agreement"].items()},
            "tensors": [Finding.of(finding) for finding in fields["tensors"]],
            "crash": crash and Crash(**{**crash, "stage": Stage(crash["stage"])}),
        }
        return cls(**{name: value for name, value in {**fields, **read}.items() if name != "passed"})

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all is exact but for what is declared, none of it stale."""
        return self.verdict is Verdict.EXACT and not self.stale and (self.compared or self.declared) > 0

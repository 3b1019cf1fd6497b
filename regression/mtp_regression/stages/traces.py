"""The files by which a case's ranks tell the judge what they came to, also where one of them crashes.

They are JSON, and appear whole or not at all: a rank may die while it writes one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtp_regression.ranks.ledger import Ledger
from mtp_regression.stages.case import About, Outcome, Stage


@dataclass(frozen=True)
class Failed:
    """Where a rank raised an exception.

    Attributes:
        stage: The stage.
        refused: Whether the exception is the bridge's refusal of the checkpoint.
    """

    stage: Stage
    refused: bool


def leave_about(folder: Path, about: About) -> None:
    """Tell which bridge it is; the first rank does."""
    _leave(folder / "about.json", asdict(about))


def leave_outcome(folder: Path, stage: Stage, rank: int, outcome: Outcome) -> None:
    """Tell what a stage, which has ended well, came to on a rank."""
    _leave(folder / f"{stage}.rank{rank}.json", asdict(outcome))


def leave_failed(folder: Path, rank: int, failed: Failed) -> None:
    """Tell in which stage a rank raised an exception."""
    _leave(folder / f"failed.rank{rank}.json", asdict(failed))


def leave_ledger(folder: Path, rank: int, ledger: Ledger) -> None:
    """Tell where a rank's time has gone so far."""
    _leave(folder / f"ledger.rank{rank}.json", {"until": ledger.until, "seconds": ledger.seconds})


def about(folder: Path) -> About | None:
    """Read which bridge it is; None if no rank has told."""
    fields = _read(folder / "about.json")
    return About(**fields) if fields else None


def outcomes(folder: Path, stage: Stage, ranks: int) -> list[Outcome]:
    """Read a stage's outcomes, in rank order: those of the ranks that ended it."""
    found = (_read(folder / f"{stage}.rank{rank}.json") for rank in range(ranks))
    return [Outcome.of(fields) for fields in found if fields]


def failed(folder: Path, rank: int) -> Failed | None:
    """Read in which stage a rank raised an exception; None if it told of none."""
    fields = _read(folder / f"failed.rank{rank}.json")
    return Failed(Stage(fields["stage"]), fields["refused"]) if fields else None


def ledgers(folder: Path, ranks: int) -> list[tuple[dict[str, float], float]]:
    """Read where the time of each rank that has told went: seconds by step, and when the last ended."""
    found = (_read(folder / f"ledger.rank{rank}.json") for rank in range(ranks))
    return [(fields["seconds"], fields["until"]) for fields in found if fields]


def _leave(path: Path, fields: Mapping[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(fields), encoding="utf-8")
    os.replace(unfinished, path)  # noqa: PTH105 - as atomic, and says so


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there, or a file system that has lost its end
        return {}

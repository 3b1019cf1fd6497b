"""The files by which a case's ranks tell the judge what they came to, also where one of them crashes.

They are pickled: ranks are processes of the same run, and the folder is made for them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

from mtp_regression.roundtrip.case import About, Evidence, Outcome, Stage


def leave_about(folder: Path, about: About) -> None:
    """Tell which bridge it is; the first rank does."""
    (folder / "about").write_bytes(pickle.dumps(about))


def leave_outcome(folder: Path, stage: Stage, rank: int, outcome: Outcome) -> None:
    """Tell what a stage, which has ended well, came to on a rank."""
    (folder / f"{stage}.rank{rank}").write_bytes(pickle.dumps(outcome))


def leave_refusal(folder: Path, rank: int) -> None:
    """Tell that the bridge refuses the checkpoint on a rank."""
    (folder / f"refused.rank{rank}").touch()


def refused(folder: Path, rank: int) -> bool:
    """Whether a rank has told that the bridge refuses the checkpoint."""
    return (folder / f"refused.rank{rank}").exists()


def take_in(evidence: Evidence, folder: Path, ranks: int) -> None:
    """Add to the evidence which bridge it was, and the outcomes of the stages that all ranks ended."""
    evidence.about = cast(About | None, _read(folder / "about")) or evidence.about
    for stage in Stage:
        outcomes = [cast(Outcome | None, _read(folder / f"{stage}.rank{rank}")) for rank in range(ranks)]
        ended = [outcome for outcome in outcomes if outcome is not None]
        if len(ended) == ranks:
            evidence.outcomes[stage] = ended


def _read(path: Path) -> object:
    return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301 - see above

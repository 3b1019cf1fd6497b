"""Cases of the round trip, and the evidence that their ranks leave."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtp_regression.parallel import Parallel
from mtp_regression.ranks import RankError
from mtp_regression.stages import About, Outcome, Stage

EXPORTS = (Stage.NATIVE, Stage.STREAM, Stage.SAVED)


@dataclass(frozen=True)
class Case:
    """One checkpoint through one bridge in one parallel layout.

    Attributes:
        adapter: See `adapter.find`.
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


Launch = Callable[[Case, Sequence[Stage], Path, Path], None]
"""Takes every rank of a case through stages: case, stages, folder of the outcomes, folder of the logs.

Raises `RankError` when a rank fails.
"""


def run_case(case: Case, launch: Launch, logs: Path) -> Evidence:
    """Run one case. After a crash in one export the case is run again for those that are left.

    Args:
        case: The case.
        launch: Starts its ranks.
        logs: Folder below which the ranks' logs are kept.

    Returns:
        An outcome or a crash for every export.

    Raises:
        RuntimeError: The ranks ended well and left no outcome.
    """
    start = time.perf_counter()
    log_folder = logs / case.folder_name
    shutil.rmtree(log_folder, ignore_errors=True)
    evidence = Evidence()
    pending = list(EXPORTS)
    while pending:
        error = ""
        with tempfile.TemporaryDirectory(prefix="mtp-roundtrip-") as folder:
            try:
                launch(case, pending, Path(folder), log_folder)
            except RankError as failure:
                error = str(failure)
            evidence.read(Path(folder), case.parallel.ranks)
        pending = [stage for stage in pending if stage not in evidence.outcomes]
        if pending and not error:
            raise RuntimeError(f"{case}: the ranks ended well, yet {pending[0]} has no outcome")
        if pending and Stage.LOAD not in evidence.outcomes:
            evidence.crashes = dict.fromkeys(pending, error)
            pending = []
        elif pending:
            evidence.crashes[pending.pop(0)] = error
    evidence.seconds = time.perf_counter() - start
    evidence.logs = sorted(log_folder.glob("*.log"))
    return evidence

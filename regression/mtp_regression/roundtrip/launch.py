"""Takes a case's ranks through its stages: ranks that are started here, or by torchrun or Slurm before."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtp_regression.adapters.protocol import AdapterError, problem_of
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.fork_server import call
from mtp_regression.ranks.world import World, joined
from mtp_regression.roundtrip.case import EXPORTS, Case, Crash, Evidence, Stage
from mtp_regression.roundtrip.stages import run_stages
from mtp_regression.roundtrip.traces import refused, take_in

Launch = Callable[[Case, Sequence[Stage], Path, Path], None]
"""Takes every rank of a case through stages: case, stages, folder of the outcomes, folder of the logs.

Raises `ranks.run.RankError` when a rank fails.
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
        failure: ranks.RankError | None = None
        with tempfile.TemporaryDirectory(prefix="mtp-roundtrip-") as name:
            folder = Path(name)
            try:
                launch(case, pending, folder, log_folder)
            except ranks.RankError as error:
                failure = error
            take_in(evidence, folder, case.parallel.ranks)
            pending = [stage for stage in pending if stage not in evidence.outcomes]
            if not pending:
                break
            if failure is None:
                raise RuntimeError(f"{case}: the ranks ended well, yet {pending[0]} has no outcome")
            if Stage.LOAD not in evidence.outcomes:
                evidence.crashes = dict.fromkeys(pending, _crash(Stage.LOAD, failure, folder))
                break
            export = pending.pop(0)
            evidence.crashes[export] = _crash(export, failure, folder)
    evidence.seconds = time.perf_counter() - start
    evidence.logs = sorted(log_folder.glob("*.log"))
    return evidence


def _crash(stage: Stage, failure: ranks.RankError, folder: Path) -> Crash:
    return Crash(
        stage=stage,
        rank=failure.rank,
        kind=failure.kind,
        exception=failure.exception,
        message=failure.message,
        refused=stage is Stage.LOAD and refused(folder, failure.rank),
        text=str(failure),
    )


@dataclass(frozen=True)
class StartedRanks:
    """Starts the ranks of every case on this machine.

    Attributes:
        time_limit: Seconds a case may take.
        device: Where the ranks keep their tensors.
    """

    time_limit: float = 120.0
    device: Device = Device.CPU

    def warm(self, adapter: str, *, generated: bool = False) -> float:
        """Import a bridge for all ranks to come, and look at the adapter's class.

        Args:
            adapter: See `adapters.protocol.find`.
            generated: Whether it has to take checkpoints that are on no disk.

        Returns:
            Seconds that the import took: 0 on GPUs, where every rank imports it itself.

        Raises:
            AdapterError: There is no such class, or it lacks a method.
            PreloadError: The bridge cannot be imported.
        """
        seconds = 0.0 if self.device.on_gpu else ranks.warm(_modules(adapter))
        problem = call(problem_of, adapter, generated, device=self.device)
        if problem:
            raise AdapterError(problem)
        return seconds

    def __call__(self, case: Case, stages: Sequence[Stage], folder: Path, logs: Path) -> None:
        """Run a case's stages; see `Launch`."""
        ranks.run(
            run_stages,
            *(case, stages, folder),
            world_size=case.parallel.ranks,
            time_limit=self.time_limit,
            log_folder=logs,
            preload=_modules(case.adapter),
            device=self.device,
        )


def run_as_rank(world: World, case: Case, folder: Path) -> None:
    """Take this process, one of `world`'s ranks, through all stages of a case.

    Args:
        world: Must have as many ranks as the case.
        case: The case.
        folder: Where the ranks leave their outcomes; on a file system that all of them share.
    """
    with joined(world):
        run_stages(world, case, EXPORTS, folder)


def _modules(adapter: str) -> list[str]:
    return [adapter.partition(":")[0]]

"""Takes a case's ranks through its stages: ranks that are started here, or by torchrun or Slurm before."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from mtp_regression.adapters.find import AdapterError, Examined, examine, find, full_name
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.ledger import waited
from mtp_regression.ranks.processes import fork_server, kept
from mtp_regression.ranks.rank import RankError
from mtp_regression.ranks.scratch import scratch
from mtp_regression.ranks.threads import run_threads
from mtp_regression.reporting.record import Crash
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.stages import traces
from mtp_regression.stages.case import Case, Stage
from mtp_regression.stages.run import run_stages

Launch = Callable[[Case, Sequence[Stage], Path, Path], None]
"""Takes every rank of a case through stages: case, stages, folder of the outcomes, folder of the logs.

Raises `ranks.rank.RankError` when a rank fails.
"""


def run_case(
    case: Case, launch: Launch, logs: Path, stages: Sequence[Stage], *, keep: Path | None = None
) -> Evidence:
    """Run one case. After a crash in one stage the case is run again for those that are left.

    Args:
        case: The case.
        launch: Starts its ranks.
        logs: Folder below which the ranks' logs are kept; those of a second run of the case in `again1`.
        stages: What to take after LOAD.
        keep: Folder below which to keep the folders that the bridge saves; None keeps none.

    Returns:
        An outcome or a crash for every stage.

    Raises:
        RuntimeError: The ranks ended well and left no outcome.
    """
    start = time.perf_counter()
    log_folder = logs / case.folder_name
    shutil.rmtree(log_folder, ignore_errors=True)
    evidence = Evidence()
    pending = list(stages)
    runs = 0
    while pending:
        with scratch("mtp-roundtrip-") as folder:
            failure: RankError | None = None
            try:
                launch(case, pending, folder, log_folder / f"again{runs}" if runs else log_folder)
            except RankError as error:
                failure = error
            until = take_in(evidence, folder, (Stage.LOAD, *pending), case.parallel.ranks)
            if failure is not None:
                _book(evidence, failure, pending, folder)
            if keep is not None:
                _keep(folder, keep / case.folder_name)
        if until is not None:  # until a rank's end or the step in which it died, then its process's end
            evidence.steps["end"] = evidence.steps.get("end", 0.0) + time.monotonic() - until
        before = len(pending)
        pending = [stage for stage in pending if stage not in {**evidence.outcomes, **evidence.crashes}]
        if len(pending) == before:
            raise RuntimeError(f"{case}: the ranks ended well, yet {pending[0]} has no outcome")
        runs += 1
    evidence.seconds = time.perf_counter() - start
    evidence.logs = sorted(log_folder.rglob("*.log"))
    return evidence


def take_in(evidence: Evidence, folder: Path, stages: Sequence[Stage], ranks: int) -> float | None:
    """Add to the evidence which bridge it was, and the outcomes of the stages that all ranks ended.

    Returns:
        The moment of the last that a rank has booked, by `time.monotonic`; None if none has.
    """
    evidence.about = traces.about(folder) or evidence.about
    for stage in stages:
        ended = traces.outcomes(folder, stage, ranks)
        if len(ended) == ranks:
            evidence.outcomes[stage] = ended
    ledgers = traces.ledgers(folder, ranks)
    told = [seconds for seconds, _ in ledgers]
    for name, took in min(told, key=waited, default={}).items():
        evidence.steps[name] = evidence.steps.get(name, 0.0) + took
    return max((moment for _, moment in ledgers), default=None)


def _book(evidence: Evidence, failure: RankError, pending: Sequence[Stage], folder: Path) -> None:
    """Book a failure to its stage: the one that the rank has named, or else the first that did not end.

    What fails after the last stage, such as the adapter's `close`, is booked to the last.
    """
    told = traces.failed(folder, failure.rank) if failure.kind == "raised" else None
    unfinished = [stage for stage in (Stage.LOAD, *pending) if stage not in evidence.outcomes]
    stage = told.stage if told else (*unfinished, pending[-1])[0]
    crash = Crash(
        stage=stage,
        rank=failure.rank,
        kind=failure.kind,
        exception=failure.exception,
        message=failure.message,
        refused=told is not None and told.refused,
        text=str(failure),
    )
    for lost in pending if stage is Stage.LOAD else [stage]:
        evidence.outcomes.pop(lost, None)
        evidence.crashes[lost] = crash


def _keep(folder: Path, kept: Path) -> None:
    for saved in (path for path in folder.iterdir() if path.is_dir()):
        shutil.rmtree(kept / saved.name, ignore_errors=True)
        shutil.move(saved, kept / saved.name)


@dataclass
class StartedRanks:
    """Starts the ranks of every case on this machine.

    Attributes:
        time_limit: Seconds a case may take.
        device: Where the ranks keep their tensors.
        in_threads: Whether the ranks are threads, as `warm` has found.
    """

    time_limit: float = 300.0
    device: Device = Device.CPU
    in_threads: bool = False
    _stopped: Event = field(default_factory=Event)

    def stop(self) -> None:
        """End the ranks that run, from another thread; nothing is started any more."""
        self._stopped.set()
        ranks.stop()

    def warm(self, adapter: str) -> tuple[float, Examined]:
        """Import a bridge for all ranks to come, and look at the adapter's class.

        Returns:
            Seconds that the import took, on GPUs in the first of the ranks; and what is known of the adapter.

        Raises:
            AdapterError: There is no such class, or it lacks a role.
            PreloadError: The bridge cannot be imported.
        """
        if self.device.on_gpu:
            begin = time.monotonic()
            examined: Examined = kept.call(examine, adapter)
            seconds = time.monotonic() - begin
        else:
            seconds = ranks.warm(_modules(adapter))
            examined = fork_server.call(examine, adapter)
        if examined.problem:
            raise AdapterError(examined.problem)
        self.in_threads = examined.in_threads
        return seconds, examined

    def warm_all(self, adapters: Iterable[str]) -> None:
        """Import the modules of adapters, on the CPU, for all ranks to come.

        Raises:
            AdapterError, PreloadError: See `warm`.
        """
        ranks.warm(sorted({module for adapter in adapters for module in _modules(adapter)}))

    def __call__(self, case: Case, stages: Sequence[Stage], folder: Path, logs: Path) -> None:
        """Run a case's stages; see `Launch`.

        Raises:
            RuntimeError: `stop` was called.
        """
        if self._stopped.is_set():
            raise RuntimeError("the run was stopped")
        if self.in_threads:
            run_threads(
                run_stages,
                *(case, stages, folder),
                size=case.parallel.ranks,
                time_limit=self.time_limit,
            )
            return
        ranks.run(
            run_stages,
            *(case, stages, folder),
            world_size=case.parallel.ranks,
            time_limit=self.time_limit,
            log_folder=logs,
            preload=_modules(case.adapter),
            device=self.device,
        )


def _modules(adapter: str) -> list[str]:
    module, _, attribute = full_name(adapter).partition(":")
    if not module or not attribute:
        find(adapter)  # says how an adapter is named
    return [module]

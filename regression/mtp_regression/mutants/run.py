"""Runs mutants: what the suite's checks see of each, and whether the criteria of others fail with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtp_regression.adapters.find import find
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.comparison.verdicts import Finding
from mtp_regression.conformance.subjects import wrong_in
from mtp_regression.mutants import bridges
from mtp_regression.mutants.criteria import CRITERIA
from mtp_regression.mutants.mutant import Mutant
from mtp_regression.mutants.table import MUTANTS
from mtp_regression.ranks.parallel import Parallel, Resharding, read_layout
from mtp_regression.ranks.processes.process import die_with_caller
from mtp_regression.ranks.rank import RankError
from mtp_regression.ranks.threads import ThreadRank, run_threads
from mtp_regression.reporting.record import Record
from mtp_regression.roundtrip.judge import judge
from mtp_regression.roundtrip.launch import StartedRanks, run_case
from mtp_regression.stages.case import CHECKS, Case, Stage

RIGHT = "mtp_regression.in_memory.bridge:InMemoryBridge"
_TIME_LIMIT = 120.0


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    Attributes:
        name: Its name.
        seen_by: The stages that have seen it.
        origin: A sentence on a wrong tensor that says what the mutant says it must; empty if none does.
        criteria: Whether each criterion of others fails, by name.
        findings: A few findings, as text.
    """

    name: str
    seen_by: Sequence[str]
    origin: str
    criteria: Mapping[str, bool]
    findings: Sequence[str]

    @property
    def killed(self) -> bool:
        """Whether any check has seen it."""
        return bool(self.seen_by)

    @property
    def as_meant(self) -> bool:
        """Whether those checks have seen it that must, and no other."""
        return {*self.seen_by} == {*MUTANTS[self.name].seen_by}

    @property
    def explained(self) -> bool:
        """Whether a sentence says what the wrong tensors hold, where any does."""
        return bool(self.origin) or not MUTANTS[self.name].origin

    @property
    def fields(self) -> dict[str, Any]:
        """What JSON has of it."""
        return {**asdict(self), "killed": self.killed, "as_meant": self.as_meant, "explained": self.explained}


def results(mutants: Sequence[Mutant], *, right: bool = False) -> Iterator[Result]:
    """Run mutants, several at a time; each result comes when it is there.

    Args:
        mutants: The mutants.
        right: Run the right bridge in place of each, once for all mutants of one checkpoint and layout.
    """
    if right:
        mutants = [*{(mutant.checkpoint, mutant.layout): mutant for mutant in mutants}.values()]
    with tempfile.TemporaryDirectory(prefix="mtp-mutants-") as name:
        scratch = Path(name)
        written: dict[tuple[Any, ...], Path] = {}
        for mutant in mutants:
            if mutant.checkpoint not in written:
                written[mutant.checkpoint] = mutant.write(scratch / f"checkpoint-{len(written)}")
        with processes(min(len(mutants), jobs())) as pool:
            futures = [
                pool.submit(result, mutant.name, written[mutant.checkpoint], scratch / mutant.name, right)
                for mutant in mutants
            ]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:  # whoever asked may have left
                pool.shutdown(cancel_futures=True)


def processes(number: int) -> ProcessPoolExecutor:
    """Return so many processes that end with this one, and are new: a fork of one with threads may hang."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(number, context, initializer=die_with_caller)


def jobs() -> int:
    """Return how many processes may run at a time."""
    return len(os.sched_getaffinity(0))


def result(name: str, checkpoint: Path, scratch: Path, right: bool = False) -> Result:
    """Run one mutant in this process, with ranks that are threads.

    Args:
        name: Its name.
        checkpoint: The folder of its checkpoint.
        scratch: A folder for what it saves; it does not exist.
        right: Run the right bridge in its place.
    """
    mutant = MUTANTS[name]
    adapter = RIGHT if right else f"{bridges.__name__}:{name}"
    scratch.mkdir()
    found = seen(mutant, adapter, checkpoint, scratch / "logs")
    told = [finding for of in found.values() for finding in of]
    fitting = [finding.origin for finding in told if mutant.origin and mutant.origin in finding.origin]
    result = Result(
        name=name,
        seen_by=[str(stage) for stage in found],
        origin=min(fitting, key=len, default=""),
        criteria=failed_criteria(mutant, find(adapter), checkpoint, scratch),
        findings=[str(finding) for finding in told[:3]],
    )
    shutil.rmtree(scratch)
    return result


def seen(mutant: Mutant, adapter: str, checkpoint: Path, logs: Path) -> dict[Stage, Sequence[Finding]]:
    """Take a bridge through all stages of a mutant's case; returns what each that has failed has found."""
    parallel = read_layout(mutant.layout)
    wrong = wrong_in(checkpoint) if Stage.REFUSED in mutant.seen_by else ()
    case = Case(adapter, checkpoint, parallel, mutant.name, wrong=wrong)
    stages = [stage for stage in case.takes(CHECKS) if stage is not Stage.FORWARD]  # which needs torch
    records = judged(case, logs, stages)
    assert {record.stage for record in records} == {*stages}
    return {Stage(record.stage): record.tensors for record in records if not record.passed}


def judged(case: Case, logs: Path, stages: Sequence[Stage]) -> list[Record]:
    """Take a case through stages with ranks that are threads, and judge it by what no one declares."""
    return judge(case, run_case(case, StartedRanks(_TIME_LIMIT, in_threads=True), logs, stages), ())


def failed_criteria(mutant: Mutant, bridge: type, checkpoint: Path, scratch: Path) -> dict[str, bool]:
    """Say which criteria of others a bridge fails with a mutant's checkpoint, in its layout.

    None of them loads a checkpoint that contradicts itself, or one of Megatron's.
    """
    layout = read_layout(mutant.layout)
    if isinstance(layout, Resharding) or Stage.REFUSED in mutant.seen_by:
        return dict.fromkeys(CRITERIA, False)
    source = read_folder(checkpoint)
    exports: dict[bool, Tensors | None] = {
        saved: _exported(bridge, checkpoint, layout, scratch / "saved" if saved else None)
        for saved in (False, True)
    }
    failed = {}
    for name, criterion in CRITERIA.items():
        exported = exports[criterion.saved]
        failed[name] = exported is None or not criterion.passes(source, exported)
    return failed


def _exported(bridge: type, checkpoint: Path, layout: Parallel, saved: Path | None) -> Tensors | None:
    """Load a checkpoint into parameters that are random at first, as others do, and export it once.

    Returns:
        What the first rank has of the stream, or of the saved folder; None after an error.
    """
    on = partial(_on_rank, bridge=bridge, checkpoint=checkpoint, layout=layout, saved=saved)
    try:
        streams: list[Tensors] = run_threads(on, size=layout.ranks, time_limit=_TIME_LIMIT)
        return streams[0] if saved is None else read_folder(saved)
    except (RankError, ValueError, OSError):  # as every reader of it would raise
        return None


def _on_rank(
    rank: ThreadRank, *, bridge: type[Any], checkpoint: Path, layout: Parallel, saved: Path | None
) -> dict[str, RawTensor]:
    own = bridge()
    own.world = rank
    own.build(checkpoint, layout)
    random = np.random.default_rng(rank.rank)
    for _, parameter in own.parameters():  # Megatron-Core's initial values
        parameter[...] = random.normal(0, 0.02, parameter.shape) if parameter.ndim > 1 else 0
    own.load(checkpoint)
    if saved is not None:
        own.save(saved)
        return {}
    return {name: RawTensor.of(tensor) for name, tensor in own.stream()}

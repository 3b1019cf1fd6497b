"""Takes a bridge whose ranks are threads through the stages of a case: no process, no torch."""

from collections.abc import Sequence
from pathlib import Path

from mtp_regression.comparison.verdicts import Finding
from mtp_regression.ranks.parallel import read_layout
from mtp_regression.ranks.threads import run_threads
from mtp_regression.stages.case import CHECKS, Case, Stage, stages_of
from mtp_regression.stages.run import run_stages
from mtp_regression.stages.traces import outcomes

SOUND = "mtp_regression.in_memory.bridge:InMemoryBridge"
CONVERTED = (Stage.NATIVE, Stage.STREAM, Stage.SAVED)
ALL = tuple(stage for stage in CHECKS if stage is not Stage.FORWARD)

Found = dict[Stage, list[Finding]]


def found(
    checkpoint: Path, layout: str, folder: Path, *, adapter: str = SOUND, stages: Sequence[Stage] = ALL
) -> Found:
    """What the stages find on all ranks; those that find nothing are left out."""
    folder.mkdir(exist_ok=True)
    parallel = read_layout(layout)
    stages = stages_of(parallel, stages)
    case = Case(adapter, checkpoint, parallel)
    run_threads(run_stages, case, stages, folder, size=parallel.ranks, time_limit=240)
    findings: Found = {}
    for stage in stages:
        ranks = outcomes(folder, stage, parallel.ranks)
        assert len(ranks) == parallel.ranks
        assert sum(outcome.compared for outcome in ranks)
        if of_stage := [finding for outcome in ranks for finding in outcome.findings]:
            findings[stage] = of_stage
    return findings

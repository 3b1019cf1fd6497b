"""One case on one rank: load, then stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mtp_bridge_patch import IncompleteLoadError, LayoutError, UnsupportedConfigError
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.rank import Rank
from mtp_regression.stages.case import About, Case, Outcome, Stage
from mtp_regression.stages.exports import saved, stream
from mtp_regression.stages.files import files
from mtp_regression.stages.loaded import Loaded
from mtp_regression.stages.native import native
from mtp_regression.stages.reloaded import reloaded
from mtp_regression.stages.resharded import resharded
from mtp_regression.stages.retrained import retrained
from mtp_regression.stages.traces import Failed, leave_about, leave_failed, leave_ledger, leave_outcome

REFUSALS = (LayoutError, IncompleteLoadError, UnsupportedConfigError)
"""With these the patch refuses a checkpoint; an adapter may declare others."""


def _load(loaded: Loaded) -> Outcome:
    loaded.load()
    return Outcome()


def _refused(loaded: Loaded) -> Outcome:
    """Say that a checkpoint which contradicts itself was loaded: after an error this is not reached."""
    what = ", ".join(loaded.case.wrong[:3])
    return Outcome(compared=1, findings=[Finding("the checkpoint", Verdict.WRONG, f"was loaded: {what}")])


def _forward(loaded: Loaded) -> Outcome:
    from mtp_regression.stages.forward import forward  # imports torch, which not every bridge needs

    return forward(loaded)


_STAGES: Mapping[Stage, Callable[[Loaded], Outcome]] = {
    Stage.LOAD: _load,
    Stage.NATIVE: native,
    Stage.STREAM: stream,
    Stage.SAVED: saved,
    Stage.FILES: files,
    Stage.FORWARD: _forward,
    Stage.RETRAINED: retrained,
    Stage.RELOADED: reloaded,
    Stage.RESHARDED: resharded,
    Stage.REFUSED: _refused,
}


def run_stages(world: Rank, case: Case, checks: Sequence[Stage], folder: Path) -> None:
    """Take one rank through the stages of a case; called on every rank of it.

    No rank begins a stage before all have ended the one before: an error belongs to the stage that raised it.

    Args:
        world: The rank.
        case: The case.
        checks: Stages to take after LOAD.
        folder: Where outcomes and the stages' files go; the same folder on every rank.
    """
    with world.ledger.step("load"):
        loaded = Loaded(world, case, folder)
    if world.rank == 0:
        told = (getattr(loaded.bridge, name, "") for name in ("release", "engine"))
        leave_about(folder, About(loaded.bridge.bridge, *told))
    try:
        for stage in (Stage.LOAD, *checks):
            _take(loaded, stage)
    finally:
        with world.ledger.step("close"):
            loaded.bridge.close()
        leave_ledger(folder, world.rank, world.ledger)


def _take(loaded: Loaded, stage: Stage) -> None:
    """Take one stage, tell of its outcome, and wait for the other ranks."""
    start = time.perf_counter()
    try:
        with loaded.step(stage):
            if stage is not Stage.LOAD:
                loaded.restore()
            outcome = _STAGES[stage](loaded)
    except Exception as error:
        refusals = (*REFUSALS, *getattr(loaded.bridge, "refusals", ()))
        refused = stage is Stage.LOAD and isinstance(error, refusals)
        leave_failed(loaded.folder, loaded.world.rank, Failed(stage, refused))
        raise
    outcome.seconds = time.perf_counter() - start
    outcome.peak_gpu_bytes = loaded.world.peak_gpu_bytes()
    outcome.warnings = loaded.bridge.warnings()
    leave_outcome(loaded.folder, stage, loaded.world.rank, outcome)
    with loaded.step(stage):
        loaded.barrier()
    leave_ledger(loaded.folder, loaded.world.rank, loaded.world.ledger)

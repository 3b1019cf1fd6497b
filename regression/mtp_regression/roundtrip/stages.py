"""One case on one rank: load, then what the ranks hold and what comes back, stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch

from mtp_bridge_patch import IncompleteLoadError, LayoutError
from mtp_regression.adapters.protocol import Adapter, ReadsGenerated, find
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.generated import tensors_of, torch_tensors
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.world import World
from mtp_regression.roundtrip.case import About, Case, Outcome, Stage
from mtp_regression.roundtrip.traces import leave_about, leave_outcome, leave_refusal

_REFUSALS = (LayoutError, IncompleteLoadError)
"""With these the patch refuses a checkpoint; an adapter may declare others."""


def run_stages(world: World, case: Case, exports: Collection[Stage], folder: Path) -> None:
    """Take one rank through the stages of a case; called on every rank of it.

    Args:
        world: The rank.
        case: The case.
        exports: Stages to take after LOAD.
        folder: Where outcomes and the saved model go; the same folder on every rank.
    """
    source = tensors_of(case.checkpoint, case.generated)
    bridge = find(case.adapter)()
    if case.generated is not None:
        cast(ReadsGenerated, bridge).read_from(torch_tensors(case.generated))
    if world.rank == 0:
        leave_about(folder, About(bridge.bridge, bridge.release, bridge.engine))
    try:
        with _stage(bridge, folder, Stage.LOAD, world.rank):
            try:
                bridge.load(case.checkpoint, case.parallel)
            except (*_REFUSALS, *getattr(bridge, "refusals", ())):
                leave_refusal(folder, world.rank)
                raise
        if Stage.NATIVE in exports:
            with _stage(bridge, folder, Stage.NATIVE, world.rank) as outcome:
                config = json.loads((case.checkpoint / "config.json").read_text(encoding="utf-8"))
                divisor = getattr(bridge, "vocab_divisor", 1)
                expected = native_parameters(
                    source, config, case.parallel, bridge.coordinates(), vocab_divisor=divisor
                )
                outcome.compared = len(expected)
                outcome.findings = check(
                    expected,
                    ((name, RawTensor.from_torch(parameter)) for name, parameter in bridge.parameters()),
                )
        if Stage.STREAM in exports:
            with _stage(bridge, folder, Stage.STREAM, world.rank) as outcome:
                outcome.compared = len(source)
                outcome.findings = compare(
                    source, ((name, RawTensor.from_torch(tensor)) for name, tensor in bridge.stream())
                )
        if Stage.SAVED in exports:
            with _stage(bridge, folder, Stage.SAVED, world.rank) as outcome:
                bridge.save(folder / "saved")
                if world.rank == 0:
                    outcome.compared = len(source)
                    outcome.findings = compare(source, read_folder(folder / "saved").items())
    finally:
        bridge.close()


@contextmanager
def _stage(bridge: Adapter, folder: Path, stage: Stage, rank: int) -> Iterator[Outcome]:
    """Time a stage, and write its outcome once it has ended well."""
    outcome = Outcome()
    start = time.perf_counter()
    yield outcome
    outcome.seconds = time.perf_counter() - start
    outcome.peak_gpu_bytes = torch.cuda.max_memory_allocated()  # 0 without a GPU
    outcome.warnings = bridge.warnings()
    leave_outcome(folder, stage, rank, outcome)

"""One case on one rank: load, then what the ranks hold and what comes back, stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mtp_regression.adapters.protocol import Adapter, find
from mtp_regression.comparison.compare import collect, compare
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World
from mtp_regression.roundtrip.case import About, Outcome, Stage


def run_stages(
    world: World, adapter_name: str, checkpoint: str, parallel_text: str, stages: list[str], folder_name: str
) -> None:
    """Take one rank through the stages of a case; called on every rank of it.

    Args:
        world: The rank.
        adapter_name: See `adapters.protocol.find`.
        checkpoint: Folder of the checkpoint.
        parallel_text: The parallel layout, as `Parallel.parse` reads it.
        stages: Stages to take after LOAD.
        folder_name: Where outcomes and the saved model go; the same folder on every rank.
    """
    folder, parallel = Path(folder_name), Parallel.parse(parallel_text)
    source = read_folder(Path(checkpoint))
    bridge = find(adapter_name)()
    if world.rank == 0:
        About(bridge.bridge, bridge.release, bridge.engine).write(folder)
    try:
        with _stage(bridge, folder, Stage.LOAD, world.rank):
            bridge.load(Path(checkpoint), parallel)
        if Stage.NATIVE in stages:
            with _stage(bridge, folder, Stage.NATIVE, world.rank) as outcome:
                config = json.loads(Path(checkpoint, "config.json").read_text(encoding="utf-8"))
                divisor = getattr(bridge, "vocab_divisor", 1)
                expected = native_parameters(
                    source, config, parallel, bridge.coordinates(), vocab_divisor=divisor
                )
                outcome.compared = len(expected)
                outcome.findings = check(
                    expected,
                    ((name, RawTensor.from_torch(parameter)) for name, parameter in bridge.parameters()),
                )
        if Stage.STREAM in stages:
            with _stage(bridge, folder, Stage.STREAM, world.rank) as outcome:
                exported, repeated = collect(
                    (name, RawTensor.from_torch(tensor)) for name, tensor in bridge.stream()
                )
                outcome.compared = len(source)
                outcome.findings = repeated + compare(source, exported)
        if Stage.SAVED in stages:
            with _stage(bridge, folder, Stage.SAVED, world.rank) as outcome:
                bridge.save(folder / "saved")
                if world.rank == 0:
                    outcome.compared = len(source)
                    outcome.findings = compare(source, read_folder(folder / "saved"))
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
    outcome.write(folder, stage, rank)

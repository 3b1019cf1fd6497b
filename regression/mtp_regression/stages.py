"""One case on one rank: load, then what the ranks hold and what comes back, stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from mtp_regression import adapter, oracle
from mtp_regression.compare import Finding, Verdict, collect, compare
from mtp_regression.native_parameters import native_parameters
from mtp_regression.parallel import Parallel
from mtp_regression.rendezvous import World
from mtp_regression.tensors import RawTensor, read_folder


class Stage(StrEnum):
    """A step of a case, in the order in which a rank takes them.

    Attributes:
        LOAD: Build the model, poison it, load the checkpoint.
        NATIVE: Compare the parameters on the rank with what the oracle expects.
        STREAM: Compare the streamed export with the checkpoint.
        SAVED: Compare the saved folder with the checkpoint.
    """

    LOAD = "load"
    NATIVE = "native"
    STREAM = "stream"
    SAVED = "saved"


@dataclass(frozen=True)
class About:
    """Which bridge a case ran.

    Attributes:
        bridge: Name of the bridge.
        release: Its release.
        engine: Where its modules came from.
    """

    bridge: str
    release: str
    engine: str

    @classmethod
    def read(cls, folder: Path) -> About | None:
        """Read what rank 0 wrote, or None if it came to nothing."""
        path = folder / _ABOUT
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


_ABOUT = "about.json"


@dataclass
class Outcome:
    """What one rank found in one stage.

    Attributes:
        compared: Number of tensors that were to be found.
        findings: Those that are not exact, and those that were not to be found.
        warnings: What the bridge has warned of up to here.
        seconds: What the stage took on this rank.
        peak_gpu_bytes: The most that torch had allocated on the rank's GPU by the end of the stage.
    """

    compared: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_gpu_bytes: int = 0

    @classmethod
    def read(cls, folder: Path, stage: Stage, rank: int) -> Outcome | None:
        """Read what a rank left behind, or None if it did not end the stage."""
        path = _outcome_path(folder, stage, rank)
        if not path.exists():
            return None
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields["findings"] = [
            Finding(found["tensor"], Verdict(found["verdict"]), found["detail"])
            for found in fields["findings"]
        ]
        return cls(**fields)


def run_stages(
    world: World, adapter_name: str, checkpoint: str, parallel_text: str, stages: list[str], folder_name: str
) -> None:
    """Take one rank through the stages of a case; called on every rank of it.

    Args:
        world: The rank.
        adapter_name: See `adapter.find`.
        checkpoint: Folder of the checkpoint.
        parallel_text: The parallel layout, as `Parallel.parse` reads it.
        stages: Stages to take after LOAD.
        folder_name: Where outcomes and the saved model go; the same folder on every rank.
    """
    folder, parallel = Path(folder_name), Parallel.parse(parallel_text)
    source = read_folder(Path(checkpoint))
    bridge = adapter.find(adapter_name)()
    if world.rank == 0:
        about = About(bridge.bridge, bridge.release, bridge.engine)
        (folder / _ABOUT).write_text(json.dumps(asdict(about)), encoding="utf-8")
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
                outcome.findings = oracle.check(
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
def _stage(bridge: adapter.Adapter, folder: Path, stage: Stage, rank: int) -> Iterator[Outcome]:
    """Time a stage, and write its outcome once it has ended well."""
    outcome = Outcome()
    start = time.perf_counter()
    yield outcome
    outcome.seconds = time.perf_counter() - start
    outcome.peak_gpu_bytes = torch.cuda.max_memory_allocated()  # 0 without a GPU
    outcome.warnings = bridge.warnings()
    _outcome_path(folder, stage, rank).write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def _outcome_path(folder: Path, stage: Stage, rank: int) -> Path:
    return folder / f"{stage}.rank{rank}.json"

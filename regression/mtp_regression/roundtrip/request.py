"""What a run of the round trip is asked for, and whether it can take place."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtp_checkpoint.errors import CheckpointError
from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID, Parallel
from mtp_regression.ranks.world import World
from mtp_regression.roundtrip.differences import read_report
from mtp_regression.stages.case import CHECKS, Stage

MAIN_JOB = ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b")
"""Presets whose tiny checkpoints are taken when none is named: MTP experts per expert, and packed."""


class CannotRunError(RuntimeError):
    """The run cannot take place; the message says what it needs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked for.

    Attributes:
        checkpoints: Folders; none takes a tiny checkpoint of each preset in `MAIN_JOB`.
        parallels: Parallel layouts; none takes the grid (what of it the ranks or GPUs allow).
        stages: What to take after the load; none takes all.
        adapter: See `adapters.protocol.find`.
        device: Where the ranks keep their tensors.
        time_limit: Seconds a case may take.
        report_path: Where the JSON report goes; the ranks' logs go beside it.
        compare_path: An earlier report, whose verdicts those of the same cells must equal.
        keep: Whether to keep the folders that the bridge saves, beside the report.
    """

    adapter: str
    report_path: Path
    checkpoints: Sequence[Path] = ()
    parallels: Sequence[Parallel] = ()
    stages: Sequence[Stage] = ()
    device: Device = Device.CPU
    time_limit: float = 120.0
    compare_path: Path | None = None
    keep: bool = False

    def checks(self) -> list[Stage]:
        """Return the stages to take, in order.

        Raises:
            CannotRunError: A stage is none that can be chosen.
        """
        if Stage.LOAD in self.stages:
            raise CannotRunError(f"{Stage.LOAD} always runs; choose of {', '.join(CHECKS)}")
        return [stage for stage in CHECKS if stage in (self.stages or CHECKS)]

    def earlier(self) -> dict[str, Any] | None:
        """Read the earlier report, if there is one to compare with, and look at what is asked for.

        Raises:
            CannotRunError: A checkpoint or the report cannot be read, or something is given twice.
        """
        try:
            _once(map(str, self.parallels), "parallel layout")
            _once((str(checkpoint.resolve()) for checkpoint in self.checkpoints), "checkpoint")
            for checkpoint in self.checkpoints:
                read_folder(checkpoint)
            return read_report(self.compare_path) if self.compare_path else None
        except (CheckpointError, ValueError) as error:
            raise CannotRunError(str(error)) from None

    def layouts(self, world: World | None) -> tuple[list[Parallel], list[Parallel]]:
        """Return the parallel layouts that can run, and those that cannot for want of ranks or GPUs.

        Args:
            world: The ranks that there are; None if they are to be started.

        Raises:
            CannotRunError: None can run, or not all that are named.
        """
        wanted = self.parallels or GRID
        chosen = [parallel for parallel in wanted if self._fits(parallel, world)]
        not_run = [parallel for parallel in wanted if parallel not in chosen]
        if not chosen or (self.parallels and not_run):
            raise CannotRunError(f"there are not the ranks or GPUs for {', '.join(map(str, not_run))}")
        return chosen, not_run

    def _fits(self, parallel: Parallel, world: World | None) -> bool:
        if world is not None:
            return parallel.ranks == world.size
        if not self.device.on_gpu:
            return True
        gpus: int = torch.cuda.device_count()
        if not gpus:
            raise CannotRunError(
                f"device {self.device} needs a GPU, and there is none; run it with --device cpu"
            )
        return self.device is Device.CUDA_SHARED or parallel.ranks <= gpus

    @contextmanager
    def folders(self) -> Iterator[dict[str, Path]]:
        """Give the checkpoints' folders by name; made for the run if none are named."""
        if self.checkpoints:
            yield named([checkpoint.resolve() for checkpoint in self.checkpoints])
            return
        with tempfile.TemporaryDirectory(prefix="mtp-checkpoints-") as scratch:
            yield {name: CheckpointSpec(preset(name)).write(Path(scratch, name)) for name in MAIN_JOB}


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Name folders by the last parts of their paths, as few as tell them all apart.

    Args:
        folders: Absolute paths, all different.
    """
    parts = [folder.relative_to(folder.anchor).parts for folder in folders]
    names: list[str] = []
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(of[-count:]) for of in parts]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def _once(words: Iterable[str], what: str) -> None:
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise ValueError(f"{what} given twice: {', '.join(twice)}")

"""How the ranks of a case are started: by us, or by torchrun or Slurm before us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtp_regression import ranks
from mtp_regression.devices import Device
from mtp_regression.rendezvous import World, joined
from mtp_regression.roundtrip import Case
from mtp_regression.stages import Stage, run_stages


@dataclass(frozen=True)
class StartedRanks:
    """Starts the ranks of every case on this machine.

    Attributes:
        time_limit: Seconds a case may take.
        device: Where the ranks keep their tensors.
    """

    time_limit: float = 120.0
    device: Device = Device.CPU

    def warm(self, adapter: str) -> float:
        """Import a bridge for all ranks to come; returns the seconds it took (0 where it cannot help)."""
        return 0.0 if self.device.on_gpu else ranks.warm(_modules(adapter))

    def __call__(self, case: Case, stages: Sequence[Stage], folder: Path, logs: Path) -> None:
        """Run a case's stages; see `roundtrip.Launch`."""
        ranks.run(
            run_stages,
            *_arguments(case, stages, folder),
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
        run_stages(world, *_arguments(case, list(Stage), folder))


def _arguments(case: Case, stages: Sequence[Stage], folder: Path) -> tuple[str, str, str, list[str], str]:
    return (
        case.adapter,
        str(case.checkpoint),
        str(case.parallel),
        [str(stage) for stage in stages],
        str(folder),
    )


def _modules(adapter: str) -> list[str]:
    return [adapter.partition(":")[0]]

"""What a run of the round trip is asked for, and whether it can take place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.layouts.keys import Block
from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_regression.adapters.find import Examined
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID, Grid, Parallel, Resharding
from mtp_regression.ranks.scratch import scratch
from mtp_regression.ranks.world import World
from mtp_regression.reporting.document import read_report
from mtp_regression.roundtrip.asked import roundtrip_command
from mtp_regression.roundtrip.declared import DeclaredException, read_declared
from mtp_regression.roundtrip.plan import Plan, given_once, named
from mtp_regression.roundtrip.room import lack_of_room
from mtp_regression.stages.case import CHECKS, NEEDS, Case, Stage, stages_of

MAIN_JOB = ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b")
"""Presets whose tiny checkpoints are taken when none is named: MTP experts per expert, and packed."""


_TWO_LAYOUTS = f"stage {Stage.RESHARDED} takes two layouts, like 'ep2 to tp2', and the others one"


class CannotRunError(RuntimeError):
    """The run cannot take place; the message says what it needs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run is asked for.

    Attributes:
        checkpoints: Folders; none, and nothing generated, takes a tiny one of each preset in `MAIN_JOB`.
        generated: Checkpoints, by name, that are on no disk, for an adapter that has `read_from`; tensors are
            made when they are loaded or compared.
        parallels: Parallel layouts, or two for a Megatron checkpoint; none takes a grid (what of it ranks,
            GPUs, memory and disk allow).
        grid: Which; ranks that torchrun or Slurm started take of the full one what fits them.
        stages: What to take after the load; none takes all that adapter, checkpoints and layouts allow.
        adapter: See `adapters.find.find`.
        device: Where the ranks keep their tensors.
        time_limit: Seconds a case may take; None takes 300, and 3600 with published dimensions.
        report_path: Where the JSON report goes; the ranks' logs go beside it.
        compare_path: An earlier report, whose verdicts those of the same cells must equal.
        keep: Whether to keep the folders that the bridge saves, beside the report.
        declared_path: A file of failures that are declared beside the adapter's own.
    """

    adapter: str
    report_path: Path
    checkpoints: Sequence[Path] = ()
    generated: Mapping[str, CheckpointSpec] = field(default_factory=dict)
    parallels: Sequence[Parallel | Resharding] = ()
    grid: Grid = Grid.DEFAULT
    stages: Sequence[Stage] = ()
    device: Device = Device.CPU
    time_limit: float | None = None
    compare_path: Path | None = None
    keep: bool = False
    declared_path: Path | None = None

    @property
    def command(self) -> str:
        """The command line that asks for the same, with names in place of paths."""
        return roundtrip_command(
            adapter=self.adapter,
            device=self.device,
            checkpoints=named([checkpoint.resolve() for checkpoint in self.checkpoints]),
            generated=self.generated,
            layouts=self.parallels,
            grid=self.grid,
            stages=self.stages,
        )

    @contextmanager
    def plan(self, adapter: Examined, world: World | None) -> Iterator[Plan]:
        """Say what to run, in a `with` block at whose end what was made for it is gone.

        Args:
            adapter: What is known of it.
            world: The ranks that there are; None if they are to be started.

        Raises:
            CannotRunError: See `checks` and `layouts`; or what is declared is no declaration.
        """
        grid = self.grid.of(adapter.grid) if world is None else adapter.grid
        stages, stages_not_run = self.checks(adapter.lacks, grid)
        layouts, layouts_not_run = self.layouts(world, grid, stages, adapter.built_twice)
        declared = self.declared(adapter)
        with self.folders() as folders:
            cases = [
                Case(self.adapter, folder, layout, name, self.generated.get(name))
                for name, folder in folders.items()
                for layout in layouts
            ]
            planned = [(case, case.takes(stages)) for case in cases]
            yield Plan(
                planned, declared, layouts_not_run, {str(stage): why for stage, why in stages_not_run.items()}
            )

    def declared(self, adapter: Examined) -> tuple[DeclaredException, ...]:
        """Read the failures that adapter and file declare.

        Raises:
            CannotRunError: One of them is none.
        """
        try:
            return read_declared(adapter.declared) + read_declared(self.declared_path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CannotRunError(f"declared failures: {error}") from None

    def checks(
        self, lacks: Collection[str], grid: Sequence[Parallel]
    ) -> tuple[list[Stage], dict[Stage, str]]:
        """Return the stages to take, in order, and those that the adapter cannot take, with the reason.

        Args:
            lacks: Roles that the adapter does not have, of those that it may lack.
            grid: Layouts that it can do.

        Raises:
            CannotRunError: A stage is named that cannot be taken, or none is left.
        """
        if Stage.LOAD in self.stages:
            raise CannotRunError(f"{Stage.LOAD} always runs; choose of {', '.join(CHECKS)}")
        if self.generated and "read_from" in lacks:
            raise CannotRunError(
                f"{self.adapter} has no read_from, by which a checkpoint is loaded that is on no disk"
            )
        layouts = self.parallels or grid
        wanted = [stage for stage in CHECKS if stage in (self.stages or CHECKS)]
        taken = {stage for parallel in layouts for stage in stages_of(parallel, wanted)}
        if self.stages and (none := [stage for stage in wanted if stage not in taken]):
            raise CannotRunError(f"no layout takes stage {none[0]}; {_TWO_LAYOUTS}")
        wanted = [stage for stage in wanted if stage in taken]
        not_run: dict[Stage, str] = {
            stage: f"{self.adapter} has no {NEEDS[stage]}" for stage in wanted if NEEDS.get(stage) in lacks
        }
        if Stage.FORWARD in wanted and self.device.on_gpu:
            not_run[Stage.FORWARD] = "it computes on the CPU"
        if Stage.FORWARD in wanted and self.generated:
            not_run[Stage.FORWARD] = "transformers would have to read the checkpoint from disk"
        if self.generated and Stage.RELOADED in wanted:
            not_run[Stage.RELOADED] = "other checkpoints would have to be written to disk"
        if self.stages and not_run:
            raise CannotRunError("; ".join(f"stage {stage}: {reason}" for stage, reason in not_run.items()))
        left: list[Stage] = [stage for stage in wanted if stage not in not_run]
        for parallel in layouts:
            if not stages_of(parallel, left):
                reasons = [*not_run.values(), _TWO_LAYOUTS]
                raise CannotRunError(f"{parallel} has no stage to take: {'; '.join(reasons)}")
        return left, not_run

    def earlier(self, world: World | None) -> dict[str, Any] | None:
        """Read the earlier report, if there is one to compare with, and look at what is asked for.

        Args:
            world: The ranks that there are; None if they are to be started.

        Raises:
            CannotRunError: A checkpoint or the report cannot be read, something is given twice, or a layout
                that is asked for cannot run.
        """
        self.layouts(world, GRID, self.stages)
        try:
            given_once(map(str, self.parallels), "parallel layout")
            given_once((str(checkpoint.resolve()) for checkpoint in self.checkpoints), "checkpoint")
            for checkpoint in self.checkpoints:
                read_folder(checkpoint)
            return read_report(self.compare_path) if self.compare_path else None
        except (CheckpointError, ValueError) as error:
            raise CannotRunError(str(error)) from None

    def layouts(
        self,
        world: World | None,
        grid: Sequence[Parallel],
        stages: Collection[Stage],
        built_twice: Collection[Block] = (),
    ) -> tuple[list[Parallel | Resharding], list[Parallel | Resharding]]:
        """Return the parallel layouts that can run, and those that cannot for want of ranks, GPUs or memory.

        Args:
            world: The ranks that there are; None if they are to be started.
            grid: Those to take if none is named.
            stages: Those to take; while the adapter is not known, those that are named.
            built_twice: See `adapters.protocol.MayHave`; nothing while the adapter is not known.

        Raises:
            CannotRunError: None can run, or not all that are named.
        """
        wanted: Sequence[Parallel | Resharding] = self.parallels or grid
        lacking = {
            layout: lack_of_room(
                self.generated, layout, self.device, world, self.report_path, stages, built_twice
            )
            for layout in wanted
            if self._fits(layout, world)
        }
        chosen = [layout for layout, lack in lacking.items() if not lack]
        not_run = [layout for layout in wanted if layout not in chosen]
        if not chosen or (self.parallels and not_run):
            figures = next(filter(None, lacking.values()), "")
            words = ", ".join(map(str, not_run))
            raise CannotRunError(figures or f"there are not the ranks or GPUs for {words}")
        return chosen, not_run

    @property
    def case_seconds(self) -> float:
        """Seconds that a case may take."""
        real = any(spec.scale is Scale.REAL for spec in self.generated.values())
        return self.time_limit or (3600.0 if real else 300.0)

    def _fits(self, parallel: Parallel | Resharding, world: World | None) -> bool:
        if world is not None:
            return parallel.ranks == world.size
        if not self.device.on_gpu:
            return True
        import torch

        gpus: int = torch.cuda.device_count()
        if not gpus:
            raise CannotRunError(
                f"device {self.device} needs a GPU, and there is none; run it with --device cpu"
            )
        return self.device is Device.CUDA_SHARED or parallel.ranks <= gpus

    @contextmanager
    def folders(self) -> Iterator[dict[str, Path]]:
        """Give the checkpoints' folders by name; those that are not at hand are made for the run."""
        if self.checkpoints:
            yield named([checkpoint.resolve() for checkpoint in self.checkpoints])
            return
        with scratch("mtp-checkpoints-") as folder:
            if self.generated:
                yield {name: spec.write(folder / name, sparse=True) for name, spec in self.generated.items()}
            else:
                yield {name: CheckpointSpec(preset(name)).write(folder / name) for name in MAIN_JOB}

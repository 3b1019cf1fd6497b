"""A run of the round trip: which cases, on which ranks, shown and reported as they end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mtp_checkpoint.errors import CheckpointError
from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_regression.adapters.protocol import AdapterError, problem_of
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID, Parallel
from mtp_regression.ranks.run import PreloadError
from mtp_regression.ranks.world import World, external_world
from mtp_regression.roundtrip.case import Case, Evidence
from mtp_regression.roundtrip.declared import declared_exceptions
from mtp_regression.roundtrip.differences import compare_reports, read_report
from mtp_regression.roundtrip.judge import Record, judge, report_of
from mtp_regression.roundtrip.launch import StartedRanks, run_as_rank, run_case
from mtp_regression.roundtrip.room import lack_of_room
from mtp_regression.roundtrip.terminal import cell_text, show
from mtp_regression.roundtrip.traces import take_in

MAIN_JOB = ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b")
"""Presets whose tiny checkpoints are taken when none is named: MTP experts per expert, and packed."""


class CannotRunError(RuntimeError):
    """The run cannot take place; the message says what it needs."""


def round_trips(
    *,
    checkpoints: Sequence[Path],
    parallels: Sequence[Parallel],
    adapter: str,
    device: Device,
    time_limit: float | None,
    report_path: Path,
    console: Console,
    compare_path: Path | None = None,
    generated: Mapping[str, CheckpointSpec] | None = None,
) -> dict[str, Any] | None:
    """Run cases, print the table and write the report.

    Args:
        checkpoints: Folders; none, and nothing generated, takes a tiny one of each preset in `MAIN_JOB`.
        parallels: Parallel layouts; none takes the grid (what of it ranks, GPUs, memory and disk allow).
        adapter: See `adapters.protocol.find`.
        device: Where the ranks keep their tensors.
        time_limit: Seconds a case may take; None takes 120, and 3600 with a generated checkpoint of published
            dimensions. Ranks that torchrun or Slurm started have none.
        report_path: Where the JSON report goes; the ranks' logs go beside it.
        console: Where progress and table are printed.
        compare_path: An earlier report, whose verdicts those of the same cells must equal.
        generated: Checkpoints, by name, that are on no disk, for an adapter that has what
            `adapters.protocol.ReadsGenerated` describes; tensors are made when they are loaded or compared.

    Returns:
        The report; None on a rank other than the first, where torchrun or Slurm started the ranks.

    Raises:
        CannotRunError: No GPU, no bridge, or a checkpoint or an earlier report that cannot be read; a
            checkpoint or parallel layout that is given twice; a time limit that would be ignored; or too
            little memory or disk for a generated checkpoint.
    """
    # Every name of a model is a folder here; nothing is to be looked up elsewhere.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        world = external_world(device)
        if world is not None and time_limit is not None:
            raise ValueError("a time limit has no effect on ranks that torchrun or Slurm has started")
        _once(map(str, parallels), "parallel layout")
        _once((str(checkpoint.resolve()) for checkpoint in checkpoints), "checkpoint")
        for checkpoint in checkpoints:
            read_folder(checkpoint)
        earlier = compare_path and read_report(compare_path)
    except (CheckpointError, ValueError) as error:
        raise CannotRunError(str(error)) from None
    wanted = parallels or GRID
    generated = generated or {}
    lacking = {
        parallel: lack_of_room(generated, parallel, device, world, report_path)
        for parallel in wanted
        if _fits(parallel, device, world)
    }
    chosen = [parallel for parallel, lack in lacking.items() if not lack]
    not_run = [str(parallel) for parallel in wanted if parallel not in chosen]
    if not chosen or (parallels and not_run):
        figures = next(filter(None, lacking.values()), "")
        raise CannotRunError(figures or f"there are not the ranks or GPUs for {', '.join(not_run)}")
    with _folders(checkpoints, generated) as folders:
        cases = [
            Case(adapter, folder, parallel, name, generated.get(name))
            for name, folder in folders.items()
            for parallel in chosen
        ]
        try:
            ran: _Ran | None
            if world is not None:
                if problem := problem_of(adapter, bool(generated)):
                    raise AdapterError(problem)
                ran = _run_in_world(world, cases, report_path)
            else:
                real = any(spec.scale is Scale.REAL for spec in generated.values())
                launch = StartedRanks(time_limit or (3600.0 if real else 120.0), device)
                ran = _run_started(cases, launch, report_path, console)
        except (AdapterError, PreloadError) as error:
            raise CannotRunError(str(error)) from None
    if ran is None:
        return None
    seconds = {"import_seconds": ran.import_seconds, "seconds": ran.seconds}
    report = report_of(ran.found, device=device, not_run=not_run, **seconds)
    differences = list(compare_reports(report, earlier)) if earlier else []
    if earlier:
        report["differences"] = differences
        report["passed"] = report["passed"] and not differences
    show(console, ran.found, **seconds)
    for line in differences:
        console.print(f"not as in {compare_path}: {line}", highlight=False, soft_wrap=True)
    if not_run:
        console.print(f"not run, for want of ranks, GPUs or memory: {', '.join(not_run)}", highlight=False)
    report_path.parent.mkdir(parents=True, exist_ok=True)
    report_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"report: {report_path}", highlight=False, soft_wrap=True)
    if all(record.ranks == 1 for record in ran.found):
        console.print("no cell ran on more than one rank: what ranks share was not tested", highlight=False)
    return report


def _fits(parallel: Parallel, device: Device, world: World | None) -> bool:
    if world is not None:
        return parallel.ranks == world.size
    if not device.on_gpu:
        return True
    gpus: int = torch.cuda.device_count()
    if not gpus:
        raise CannotRunError(f"device {device} needs a GPU, and there is none; run it with --device cpu")
    return device is Device.CUDA_SHARED or parallel.ranks <= gpus


@contextmanager
def _folders(
    checkpoints: Sequence[Path], generated: Mapping[str, CheckpointSpec]
) -> Iterator[dict[str, Path]]:
    """Give the checkpoints' folders by name; those that are not at hand are made for the run."""
    if checkpoints:
        yield named([checkpoint.resolve() for checkpoint in checkpoints])
        return
    with tempfile.TemporaryDirectory(prefix="mtp-checkpoints-") as name:
        scratch = Path(name)
        if generated:
            yield {name: spec.write(scratch / name, sparse=True) for name, spec in generated.items()}
        else:
            yield {name: CheckpointSpec(preset(name)).write(scratch / name) for name in MAIN_JOB}


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


@dataclass(frozen=True)
class _Ran:
    found: list[Record]
    import_seconds: float
    seconds: float


def _run_started(cases: Sequence[Case], launch: StartedRanks, report_path: Path, console: Console) -> _Ran:
    with console.status("importing the bridge"):
        import_seconds = launch.warm(cases[0].adapter, generated=cases[0].generated is not None)
    declared = declared_exceptions()
    found: list[Record] = []
    start = time.perf_counter()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with progress:
        task = progress.add_task("cells", total=len(cases))
        for case in cases:
            progress.update(task, description=f"{case.name}, {case.parallel}")
            cell = judge(case, run_case(case, launch, report_path.parent / "logs"), declared)
            found += cell
            summary = cell_text(cell).replace("\n", ", ")
            progress.console.print(f"{case.name}, {case.parallel}: {summary}", highlight=False)
            progress.advance(task)
    seconds = time.perf_counter() - start
    return _Ran(found, import_seconds, seconds)


def _run_in_world(world: World, cases: Sequence[Case], report_path: Path) -> _Ran | None:
    """Run the cases in this process, one of the ranks that torchrun or Slurm started.

    The report's folder must be on a file system that all ranks share. A rank that crashes ends the
    run: whoever started the ranks reports it.
    """
    declared = declared_exceptions()
    found: list[Record] = []
    start = time.perf_counter()
    shared = report_path.parent / "ranks"
    for case in cases:
        folder = shared / case.folder_name
        if world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        case_start = time.perf_counter()
        run_as_rank(world, case, folder)
        if world.rank == 0:
            evidence = Evidence(seconds=time.perf_counter() - case_start)
            take_in(evidence, folder, world.size)
            found += judge(case, evidence, declared)
    if world.rank != 0:
        return None
    shutil.rmtree(shared)
    return _Ran(found, 0.0, time.perf_counter() - start)

"""A run of the round trip: its cases, shown and reported as they end."""

from __future__ import annotations

import faulthandler
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mtp_regression.adapters.find import AdapterError, Examined, examine
from mtp_regression.ranks.ledger import Ledger
from mtp_regression.ranks.processes.fork_server import ImportedBy, imported_by
from mtp_regression.ranks.run import PreloadError
from mtp_regression.ranks.world import World, external_world
from mtp_regression.reporting.differences import compare_reports
from mtp_regression.reporting.document import report_of, write_report
from mtp_regression.reporting.record import Record
from mtp_regression.reporting.tables import MANY, cell_text, cells, passed
from mtp_regression.reporting.terminal import show
from mtp_regression.roundtrip.asked import about
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.roundtrip.judge import judge
from mtp_regression.roundtrip.launch import StartedRanks, run_case, take_in
from mtp_regression.roundtrip.plan import Planned
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.roundtrip.room import free_cores
from mtp_regression.roundtrip.side_by_side import RunCase, side_by_side
from mtp_regression.stages.case import Case, Stage
from mtp_regression.stages.run import run_stages


def round_trips(request: Request, console: Console) -> dict[str, Any] | None:
    """Run cases, print the table and write the report, which is complete after every case.

    Args:
        request: What to run.
        console: Where progress and table are printed.

    Returns:
        The report; None on a rank other than the first, where torchrun or Slurm started the ranks.

    Raises:
        CannotRunError: No GPU, no bridge, a checkpoint or an earlier report that cannot be read, a checkpoint
            or parallel layout that is given twice, or too little memory or disk for a generated checkpoint.
    """
    # Every name of a model is a folder here; nothing is to be looked up elsewhere.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        world = external_world(request.device)
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    earlier = request.earlier(world)
    try:
        runner = _on_started_ranks(request, console) if world is None else _in_world(world, request)
    except (AdapterError, PreloadError) as error:
        raise CannotRunError(str(error)) from None
    with request.plan(runner.adapter, world) as plan:
        if world is not None and world.rank != 0:
            for planned in plan.cases:
                runner.run(*planned)
            return None
        found: list[Record] = []
        report: dict[str, Any] = {}
        checkpoints = about(case for case, _ in plan.cases)
        with closing(_timed(runner, plan.cases, console)) as ended:
            for number, (case, evidence, seconds) in enumerate(ended, 1):
                records = judge(case, evidence, plan.declared)
                found += records
                if line := _told(records, found, len(plan.cases)):
                    console.print(line, highlight=False)
                report = report_of(
                    found,
                    device=request.device,
                    import_seconds=runner.import_seconds,
                    deferred=runner.adapter.deferred,
                    imported_by=runner.imported_by,
                    seconds=seconds,
                    not_run=[*map(str, plan.layouts_not_run)],
                    stages_not_run=plan.stages_not_run,
                    unfinished=[f"{later.name}, {later.parallel}" for later, _ in plan.cases[number:]],
                    command=request.command,
                    checkpoints=checkpoints,
                )
                if earlier:
                    report["differences"] = [*compare_reports(report, earlier)]
                    report["passed"] &= not report["differences"]
                write_report(report, request.report_path)
    show(console, found, report)
    for line in report.get("differences", ()):
        console.print(f"not as in {request.compare_path}: {line}", highlight=False, soft_wrap=True)
    console.print(f"report: {request.report_path}", highlight=False, soft_wrap=True)
    return report


def _told(records: Sequence[Record], found: Sequence[Record], cases: int) -> str:
    """Say what became of a case; of many cases, how far the run is, after every tenth of them."""
    if cases < MANY:
        return f"{records[0].checkpoint}, {records[0].parallel}: {cell_text(records)}" if records else ""
    ended = cells(found).values()
    return f"{len(ended)} of {cases} cells, {sum(map(passed, ended))} exact" if len(ended) % 10 == 0 else ""


def _timed(
    runner: _Runner, cases: Sequence[Planned], console: Console
) -> Generator[tuple[Case, Evidence, float]]:
    """Run cases; yields each with its evidence and the seconds since the first began."""
    start = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("cells", total=len(cases))

        def run(case: Case, stages: Sequence[Stage]) -> Evidence:
            progress.update(task, description=f"{case.name}, {case.parallel}")
            return runner.run(case, stages)

        if runner.cores > 1:
            found = side_by_side(run, cases, runner.cores, runner.stop)
        else:
            found = (run(*planned) for planned in cases)
        for (case, _), evidence in zip(cases, found, strict=True):
            yield case, evidence, time.perf_counter() - start
            progress.advance(task)


@dataclass(frozen=True)
class _Runner:
    """What runs a case, and what is known of the adapter.

    Attributes:
        run: Runs a case.
        import_seconds: What the import of the bridge took.
        adapter: What is known of the adapter.
        imported_by: Who has imported the bridge.
        cores: Ranks that may run at the same time; 1 for one case after the other.
        stop: Ends the cases that run.
    """

    run: RunCase
    import_seconds: float
    adapter: Examined
    imported_by: ImportedBy = "command"
    cores: int = 1
    stop: Callable[[], None] = lambda: None


def _on_started_ranks(request: Request, console: Console) -> _Runner:
    """Make what runs a case on ranks that it starts."""
    launch = StartedRanks(request.case_seconds, request.device)
    with console.status("importing the bridge"):
        import_seconds, examined = launch.warm(request.adapter)
    folder = request.report_path.parent
    keep = folder / "kept" if request.keep else None

    def run(case: Case, stages: Sequence[Stage]) -> Evidence:
        return run_case(case, launch, folder / "logs", stages, keep=keep)

    # What is generated may take most of the memory, and so may a model on a GPU.
    alone = launch.in_threads or request.device.on_gpu or request.generated
    cores = 1 if alone else free_cores(request.checkpoints)
    return _Runner(run, import_seconds, examined, imported_by(), cores, launch.stop)


def _in_world(world: World, request: Request) -> _Runner:
    """Make what runs a case in this process, a rank that torchrun or Slurm started.

    The report's folder must be on a file system that all ranks share. A rank that crashes, or reaches the
    time limit, ends the run: whoever started the ranks reports it.
    """
    from mtp_regression.ranks.world import joined

    start = time.perf_counter()
    examined = examine(request.adapter)
    if examined.problem:
        raise AdapterError(examined.problem)
    import_seconds = time.perf_counter() - start
    shared = request.report_path.parent / ("kept" if request.keep else "ranks")

    def run(case: Case, stages: Sequence[Stage]) -> Evidence:
        folder = shared / case.folder_name
        if world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        start = time.perf_counter()
        own = replace(world, ledger=Ledger())
        faulthandler.dump_traceback_later(request.case_seconds, exit=True)  # with code 1
        try:
            with joined(own):
                run_stages(own, case, stages, folder)
        finally:
            faulthandler.cancel_dump_traceback_later()
        evidence = Evidence(seconds=time.perf_counter() - start)
        if world.rank == 0:
            take_in(evidence, folder, (Stage.LOAD, *stages), world.size)
            if not request.keep:
                shutil.rmtree(folder)
        return evidence

    return _Runner(run, import_seconds, examined)

"""The check's results as one table of at most 40 lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from mtp_regression.maintenance.gpu_check.steps import Result
from mtp_regression.stages.case import ONE_LAYOUT


def step_table(results: Sequence[Result]) -> Table:
    """Lay the steps out, a line each."""
    table = Table("step", "", "s", "what came of it", box=None, pad_edge=False)
    for result in results:
        table.add_row(result.name, "ok" if result.passed else "FAILED", f"{result.seconds:.0f}", result.note)
    return table


def cell_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay the cells out, a line each: verdict, seconds of every stage, peak memory of the GPU."""
    heads = ("cell", "step", "verdict", "load", *ONE_LAYOUT, "of it", "peak GPU")
    table = Table(*heads, box=None, pad_edge=False)
    for row in cells(reports):
        table.add_row(*row)
    return table


def cells(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each cell of each report.

    Yields:
        Checkpoint and layout, step, verdicts, seconds of load and of each stage on the slowest rank, "-" if a
        stage did not run, seconds of the whole case, and MiB at the peak, of the rank that had most.
    """
    for step, report in reports.items():
        grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for record in report["records"]:
            grouped.setdefault((record["checkpoint"], record["parallel"]), []).append(record)
        for (checkpoint, parallel), records in grouped.items():
            peak = max(record["peak_gpu_bytes"] for record in records)
            seconds = {record["stage"]: f"{record['seconds']:.2f}" for record in records}
            yield (
                f"{checkpoint} {parallel}",
                step,
                _verdict(records),
                f"{records[0]['load_seconds']:.2f}",
                *(seconds.get(stage, "-") for stage in ONE_LAYOUT),
                f"{records[0]['case_seconds']:.1f}",
                f"{peak / 2**20:.0f} MiB" if peak else "-",
            )


def _verdict(records: Iterable[Mapping[str, Any]]) -> str:
    """Say "exact", or what each stage that did not pass was."""
    failed = [f"{record['stage']} {record['verdict']}" for record in records if not record["passed"]]
    return ", ".join(failed) or "exact"

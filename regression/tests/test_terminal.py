"""The table and the list of what is wrong, as a person sees them."""

import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID
from mtp_regression.reporting.document import report_of
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.reporting.terminal import findings, show, trace
from mtp_regression.roundtrip.judge import merge
from mtp_regression.stages.case import Outcome, Stage

EXACT = Record(
    bridge="bridge 1.0",
    engine="engine",
    checkpoint="first",
    parallel="tp1",
    ranks=1,
    stage=Stage.NATIVE,
    check="first-tp1::native",
    verdict=Verdict.EXACT,
    declared=0,
    seconds=0.5,
    case_seconds=1.25,
    compared=3,
)


def shown(*records: Record, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        report = report_of(records, device=Device.CPU, import_seconds=20.0, seconds=2.0)
        show(console, records, report)
    return console.export_text()


def test_table_has_a_row_a_layout_and_a_column_a_checkpoint() -> None:
    records = [
        replace(EXACT, checkpoint=name, parallel=layout, declared=declared)
        for name, declared in (("first", 0), ("second", 6))
        for layout in ("tp1", "ep2")
    ]
    text = shown(*records)
    [header] = [line for line in text.splitlines() if "layout" in line]
    assert header.index("first") < header.index("second")
    assert text.index("tp1") < text.index("ep2")
    assert text.count("6 declared") == 2
    assert text.count("1.2 s") == 4
    assert "4 of 4 cells exact in 2.0 s after an import of 20.0 s; modules from engine" in text
    assert "what happened" not in text


def test_narrow_terminal_splits_the_table() -> None:
    records = [
        replace(EXACT, checkpoint=f"number{size}", parallel=f"ep{n}") for size in range(4) for n in (1, 2)
    ]
    text = shown(*records, width=40)
    assert text.count("layout") > 1
    assert all(f"number{size}" in text for size in range(4))


def test_of_hundreds_of_cells_those_that_are_exact_are_told_in_a_line() -> None:
    grid = [replace(EXACT, checkpoint=name, parallel=f"ep{n}") for name in ("a", "b") for n in range(1, 14)]
    alone = [replace(EXACT, checkpoint=f"scenario{n}") for n in range(300)]
    text = shown(*grid, *alone)
    assert "exact: a, b in 13 layouts\nexact: 300 checkpoints, each in one layout\n" in text
    grid[5] = replace(grid[5], verdict=Verdict.WRONG)
    alone[7] = replace(alone[7], verdict=Verdict.WRONG)
    text = shown(*grid, *alone)
    assert "exact: a, b in 12 other layouts" in text
    assert "exact: 299 checkpoints, each in one layout" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("│")] == ["ep6", "scenario7"]


def test_cell_shows_the_gravest_verdict_of_its_stages() -> None:
    text = shown(EXACT, replace(EXACT, stage=Stage.STREAM, verdict=Verdict.WRONG))
    assert "0 of 1 cells exact" in text
    assert "│ wrong" in text


def test_findings_are_told_once_and_what_is_declared_is_not() -> None:
    wrong = [Finding(f"tensor.{number}", Verdict.WRONG, f"{number} differ") for number in range(9)]
    declared = Finding("known", Verdict.WRONG, "9 differ", declared=True)
    record = replace(EXACT, verdict=Verdict.WRONG, tensors=[declared, *wrong], warnings=["look out"])
    assert list(findings([EXACT, record])) == [
        "wrong: 9 tensors, tensor.{0-8}",
        "  tensor.0: 0 differ",
        "  in first in tp1: native",
        "the bridge warned: look out",
    ]


def test_parameter_is_named_with_its_place() -> None:
    wrong = Finding("mtp.layers.0.enorm.weight", Verdict.WRONG, "1 of 8", rank=3, chunk=1)
    lines = list(findings([replace(EXACT, ranks=4, verdict=Verdict.WRONG, tensors=[wrong])]))
    assert lines == ["wrong: mtp.layers.0.enorm.weight: 1 of 8", "  in first in tp1: native; rank 3, chunk 1"]


def test_findings_of_ranks_and_chunks_are_apart_and_exports_are_one() -> None:
    wrong = Finding("mtp.layers.0.enorm.weight", Verdict.WRONG, chunk=1)
    first = [wrong.on_rank(0), replace(wrong, chunk=0).on_rank(0)]
    ranks = [Outcome(findings=first), Outcome(), Outcome(findings=[wrong.on_rank(2)])]
    assert [(found.rank, found.chunk) for found in merge(ranks)] == [(0, 0), (0, 1), (2, 1)]
    milder = Finding("mtp.fc.weight", Verdict.DTYPE)
    outcomes = [Outcome(findings=[milder]), Outcome(findings=[replace(milder, verdict=Verdict.POISONED)])]
    assert merge(outcomes) == [Finding("mtp.fc.weight", Verdict.POISONED)]


def test_same_crash_is_told_once() -> None:
    text = "rank 1 raised\n\ntraceback\n\nlogs:\n  rank 0: log0\n  rank 1: log1"
    why = Crash(Stage.LOAD, 1, "raised", "builtins.KeyError", "'x'", refused=False, text=text)
    crash = replace(EXACT, verdict=why.verdict, crash=why)
    assert list(findings([crash, replace(crash, stage=Stage.STREAM)])) == [
        "crash-import: KeyError: 'x'",
        "  in first in tp1: native, stream",
        "    rank 1 raised",
        "    traceback",
        "    rank 1: log1",
    ]


@pytest.mark.parametrize(("kind", "last"), [("raised", "line 99"), ("timeout", "...")])
def test_long_traceback_is_cut_where_it_says_least(kind: str, last: str) -> None:
    text = "head\n\n" + "\n".join(f"line {number}" for number in range(100))
    lines = list(trace(Crash(Stage.LOAD, 0, kind, "", "", refused=False, text=text), 10))
    assert (len(lines) <= 11, lines[0], lines[-1]) == (True, "head", last)


def test_nothing_compared_and_stale_exceptions_do_not_pass() -> None:
    assert EXACT.passed
    assert not replace(EXACT, compared=0).passed
    assert not replace(EXACT, stale=["A_log: no longer happens"]).passed
    made = report_of([EXACT, replace(EXACT, compared=0)], device=Device.CPU, import_seconds=0, seconds=0)
    assert made["passed"] is False
    assert report_of([EXACT], device=Device.CPU, import_seconds=0, seconds=0, not_run=["ep8"])["not_run"] == [
        "ep8"
    ]
    unfinished = report_of([EXACT], device=Device.CPU, import_seconds=0, seconds=0, unfinished=["first, ep2"])
    assert (unfinished["passed"], unfinished["unfinished"]) == (False, ["first, ep2"])
    assert report_of([], device=Device.CPU, import_seconds=0, seconds=0)["passed"] is False


def test_report_is_strict_json_where_logits_are_no_numbers() -> None:
    record = replace(EXACT, stage=Stage.FORWARD, agreement={"main": float("inf"), "mtp.0": 0.5})
    report = report_of([record], device=Device.CPU, import_seconds=20.0, seconds=2.0)
    [read] = json.loads(json.dumps(report, allow_nan=False))["records"]
    assert read["agreement"] == {"main": None, "mtp.0": 0.5}


def test_a_grid_that_fails_in_every_cell_and_in_several_ways_fits_on_two_screens() -> None:
    text = "rank 0 raised\n\n" + "\n".join(f"frame {number} of a long traceback" for number in range(60))
    records = []
    for name in ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b"):
        for layout in GRID:
            cell = replace(EXACT, checkpoint=name, parallel=str(layout), ranks=layout.ranks)
            params = [
                f"{top}.layers.{n}.weight{e}" for top in ("decoder", "mtp") for n in (0, 1) for e in range(8)
            ]
            found = [Finding(n, Verdict.POISONED, "8 of 8 are NaN", rank=0, chunk=0) for n in params]
            kinds = [
                Finding(f"{n}.{kind}", Verdict.WRONG, kind * 50) for kind in "abcdefghijkl" for n in range(9)
            ]
            why = Crash(Stage.STREAM, 0, "raised", "E", "why", refused=False, text=text)
            records += [
                replace(cell, verdict=Verdict.POISONED, tensors=found),
                replace(cell, stage=Stage.STREAM, verdict=why.verdict, crash=why, warnings=["x" * 300]),
                replace(cell, stage=Stage.SAVED, verdict=Verdict.WRONG, tensors=kinds),
            ]
    lines = [line.rstrip() for line in shown(*records, width=110).splitlines()]
    cells_as_they_end = 26
    assert sum(max(1, math.ceil(len(line) / 110)) for line in lines) + cells_as_they_end <= 100
    assert sum("frame" in line for line in lines) < 40

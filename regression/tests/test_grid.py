"""The default grid sees all that the full one sees, and is the smallest that does."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.adapters.find import Examined
from mtp_regression.commands.app import app
from mtp_regression.maintenance.mutants_page import layouts
from mtp_regression.mutants import grid
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import DEFAULT_GRID, DENSE_GRID, GRID, Grid, Parallel
from mtp_regression.ranks.world import World
from mtp_regression.roundtrip.request import MAIN_JOB, Request

SEEN = {name: seen for name, seen in grid.known().items() if seen}
DEFAULT = {*map(str, DEFAULT_GRID)}


def test_every_mutant_of_several_ranks_was_measured_in_layouts_that_there_are() -> None:
    assert [*grid.known()] == grid.of_several_ranks()
    assert {layout for layouts in SEEN.values() for layout in layouts} <= {*map(str, GRID)}
    assert len(SEEN) > 10


def test_default_grid_is_the_smallest_that_shows_what_the_full_one_shows() -> None:
    assert grid.smallest(grid.known()) == DEFAULT_GRID
    assert all(seen & DEFAULT for seen in grid.required(grid.known()).values())


@pytest.mark.parametrize("left_out", DEFAULT_GRID[1:], ids=str)
def test_no_layout_of_it_can_be_left_out(left_out: Parallel) -> None:
    fewer = DEFAULT - {str(left_out)}
    assert [what for what, seen in grid.required(grid.known()).items() if not seen & fewer]


def test_all_that_a_layout_can_do_is_asked_for() -> None:
    assert {*grid.axes(Parallel(tp=2, pp=2, vpp=2, ep=2, etp=2, cp=2, ranks=16))} >= {
        "TP",
        "PP",
        "VPP",
        "EP",
        "ETP",
        "CP",
    }
    assert [*grid.axes(Parallel(ep=2))] == ["EP", "replicas of a layer"]
    assert [*grid.axes(Parallel(tp=2))] == ["TP", "replicas of experts"]
    asked = grid.required({})
    assert {*asked} == {axis for parallel in GRID for axis in grid.axes(parallel)}


@pytest.mark.parametrize("name", SEEN)
def test_default_grid_shows_it(name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """In truth, whatever was measured: in the first of its layouts that is said to."""
    [layout, *_] = [parallel for parallel in DEFAULT_GRID if str(parallel) in SEEN[name]]
    checkpoints = [make_checkpoint(model) for model in MAIN_JOB]
    assert grid.seen_in([layout], checkpoints, tmp_path, name) == [str(layout)]


def test_layouts_are_chosen_of_those_that_a_bridge_can_do() -> None:
    assert Grid.DEFAULT.of(GRID) == DEFAULT_GRID
    assert Grid.DEFAULT.of(GRID[::-1]) == DEFAULT_GRID
    assert Grid.FULL.of(GRID) == GRID
    assert Grid.DEFAULT.of(DENSE_GRID) == DENSE_GRID, "what these lack may be what sees a mistake"


def planned(grid: Grid, ranks: int, folder: Path, checkpoint: Path) -> list[str]:
    world = World(0, ranks, 0, Device.CPU, "env://") if ranks else None
    request = Request(adapter="a:B", report_path=folder / "report.json", checkpoints=[checkpoint], grid=grid)
    with request.plan(Examined(), world) as plan:
        return [str(case.parallel) for case, _ in plan.cases]


def test_run_takes_the_grid_that_is_asked_for(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    folders = tmp_path, make_checkpoint("qwen3.5-0.8b")
    assert planned(Grid.DEFAULT, 0, *folders) == [*map(str, DEFAULT_GRID)]
    assert planned(Grid.FULL, 0, *folders) == [*map(str, GRID)]
    of_eight = [str(parallel) for parallel in GRID if parallel.ranks == 8]
    assert planned(Grid.DEFAULT, 8, *folders) == of_eight, "torchrun's ranks take what fits them"


def test_command_says_which_grid(tmp_path: Path) -> None:
    request = Request(adapter="a:B", report_path=tmp_path)
    assert "--grid" not in request.command
    assert replace(request, grid=Grid.FULL).command.endswith(" --grid full")


def test_grid_is_for_runs_without_layouts() -> None:
    words = ["roundtrip", "--grid", "full", "--parallel", "tp1"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--grid: has no effect with --parallel" in result.stderr


def test_page_marks_the_default_grid() -> None:
    lines = [*layouts()]
    assert [line for line in lines if line.startswith("| `virtual-stages-in-blocks` ")]
    [header] = [line for line in lines if line.startswith("| | ")]
    assert header.count("**") == 2 * len(DEFAULT_GRID)

"""The default grid sees all that the full one sees, and is the smallest that does."""

from pathlib import Path

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.maintenance.mutants_page import layouts
from mtp_regression.mutants import grid
from mtp_regression.ranks.parallel import DEFAULT_GRID, DENSE_GRID, GRID, Grid, Parallel
from mtp_regression.roundtrip.request import MAIN_JOB

SEEN = {name: seen for name, seen in grid.known().items() if seen}
DEFAULT = {*map(str, DEFAULT_GRID)}


def test_every_mutant_of_several_ranks_was_measured_in_layouts_that_there_are() -> None:
    assert [*grid.known()] == grid.of_several_ranks()
    assert {layout for layouts in SEEN.values() for layout in layouts} <= {*map(str, GRID)}
    assert len(SEEN) > 10


def test_default_grid_is_the_smallest_that_shows_what_the_full_one_shows() -> None:
    assert DEFAULT_GRID == grid.smallest(grid.known())
    assert all(seen & DEFAULT for seen in grid.required(grid.known()).values())


@pytest.mark.parametrize("left_out", DEFAULT_GRID[1:], ids=str)
def test_no_layout_of_it_can_be_left_out(left_out: Parallel) -> None:
    fewer = DEFAULT - {str(left_out)}
    assert [what for what, seen in grid.required(grid.known()).items() if not seen & fewer]


def test_all_that_a_layout_can_do_is_asked_for() -> None:
    assert {*grid.axes(Parallel(tp=2, pp=2, vpp=2, ep=2, etp=2, cp=2, ranks=16))} >= {"TP", "PP", "VPP", "EP", "ETP", "CP"}
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


def test_page_marks_the_default_grid() -> None:
    lines = [*layouts()]
    assert [line for line in lines if line.startswith("| `virtual-stages-in-blocks` ")]
    [header] = [line for line in lines if line.startswith("| | ")]
    assert header.count("**") == 2 * len(DEFAULT_GRID)

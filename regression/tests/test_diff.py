"""`mtpkit diff`: two reports, and two checkpoints."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison import stored
from mtp_regression.comparison.stored import PIECE, Stored
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.parallel import GRID
from mtp_regression.reporting.differences import Change, differences
from mtp_regression.reporting.record import Record
from mtp_regression.stages.case import Stage

from .test_report_command import mtpkit, written
from .test_terminal import EXACT

WRONG = replace(EXACT, verdict=Verdict.WRONG, tensors=[Finding(f"x.{n}", Verdict.WRONG, "y") for n in (0, 1)])


def fewer(record: Record) -> Record:
    return replace(record, tensors=record.tensors[:1])


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (EXACT, WRONG, Change.WORSE),
        (WRONG, EXACT, Change.BETTER),
        (WRONG, replace(WRONG, verdict=Verdict.POISONED), Change.WORSE),
        (WRONG, replace(WRONG, verdict=Verdict.FLIP), Change.BETTER),
        (fewer(WRONG), WRONG, Change.WORSE),
        (WRONG, fewer(WRONG), Change.BETTER),
        (EXACT, replace(EXACT, stale=["x: y"]), Change.WORSE),
        (EXACT, replace(EXACT, compared=0), Change.WORSE),
        (EXACT, replace(EXACT, compared=2), Change.CHANGED),
        (EXACT, replace(EXACT, declared=1), Change.CHANGED),
        (WRONG, replace(WRONG, tensors=[*WRONG.tensors[:1], Finding("z", Verdict.WRONG)]), Change.CHANGED),
    ],
)
def test_what_is_better_and_what_is_worse(before: Record, now: Record, change: Change) -> None:
    assert [found.change for found in differences([now], [before])] == [change]
    assert differences([now], [now]) == []


def test_cells_of_one_report_alone() -> None:
    other = replace(EXACT, parallel="ep2")
    assert [found.change for found in differences([other], [EXACT])] == [Change.NEW, Change.GONE]


def test_reports_are_told_with_exit_codes(tmp_path: Path) -> None:
    grid = [
        replace(EXACT, parallel=str(layout), stage=stage)
        for layout in GRID
        for stage in (Stage.NATIVE, Stage.SAVED)
    ]
    bad = [replace(record, verdict=WRONG.verdict, tensors=WRONG.tensors) for record in grid]
    good, worse = written(tmp_path / "a.json", *grid), written(tmp_path / "b.json", *bad)
    code, printed = mtpkit("diff", good, worse)
    assert code == 1
    assert printed.splitlines() == [
        "earlier: bridge 1.0, 13 of 13 cells exact",
        "later:   bridge 1.0, 0 of 13 cells exact",
        "worse: exact, now wrong (2 tensors)",
        "  in first in all 13 layouts: native, saved",
        "wrong: 2 tensors, x.{0,1}: y",
        "  in first in all 13 layouts: native, saved",
        "26 worse (stages of cells)",
    ]
    code, printed = mtpkit("diff", worse, good)
    assert (code, "better: wrong (2 tensors), now exact" in printed) == (0, True)
    assert mtpkit("diff", good, good)[1].endswith("the same in both\n")
    code, printed = mtpkit("diff", good, worse, "--format", "markdown")
    assert code == 1
    assert "| worse | exact, now wrong (2 tensors) | first in all 13 layouts: native, saved |" in printed
    assert "- **wrong**: 2 tensors, x.{0,1}: y\n  - in first in all 13 layouts" in printed


def test_what_cannot_be_held_against_each_other(tmp_path: Path) -> None:
    report = written(tmp_path / "a.json", EXACT)
    (tmp_path / "empty").mkdir()
    for words in (
        [report, tmp_path],
        [report, tmp_path / "absent"],
        [tmp_path / "empty", tmp_path / "empty"],
    ):
        assert mtpkit("diff", *words)[0] == 2


Changed = Callable[[dict[str, Any]], object]


@pytest.fixture
def copy(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> Callable[[Changed], tuple[Path, Path]]:
    """Give a checkpoint, and a copy of it in which a function has changed the tensors of one file."""

    def changed(change: Changed) -> tuple[Path, Path]:
        source = make_checkpoint("qwen3.6-35b-a3b")
        target = shutil.copytree(source, tmp_path / "copy")
        for file in target.glob("*.safetensors"):
            tensors = load_file(file)
            if "mtp.fc.weight" in tensors:
                change(tensors)
                save_file(tensors, file, metadata={"format": "pt"})
        return source, target

    return changed


def test_folders_that_are_equal(copy: Callable[[Changed], tuple[Path, Path]]) -> None:
    source, target = copy(lambda _: None)
    code, printed = mtpkit("diff", source, target)
    assert (code, printed) == (0, f"{source.name} and copy: equal, 124 tensors and 9 other files\n")


def test_one_byte_of_a_folder(copy: Callable[[Changed], tuple[Path, Path]]) -> None:
    def change(tensors: dict[str, Any]) -> None:
        flat = tensors["mtp.fc.weight"].view(np.uint8).reshape(-1)
        flat[-1] ^= 1

    source, target = copy(change)
    code, printed = mtpkit("diff", source, target)
    assert code == 1
    assert "wrong: mtp.fc.weight: 1 of 56448 elements differ, first [167, 335]: 0x" in printed
    assert printed.splitlines()[-1] == f"{source.name} and copy: 1 difference"


def test_side_files_and_layouts_of_folders(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    packed = make_checkpoint("qwen3.6-35b-a3b")
    single = make_checkpoint("qwen3.6-35b-a3b", mtp_experts="per-expert")
    code, printed = mtpkit("diff", packed, single, "--format", "markdown")
    assert code == 1
    assert (
        r"**flip**: 2 tensors, mtp.layers.0.mlp.experts.{gate\_up,down}\_proj: in the other layout, as 24"
        in printed
    )
    target = shutil.copytree(packed, tmp_path / "copy")
    (target / "merges.txt").unlink()
    assert mtpkit("diff", packed, target) == (
        1,
        f"missing: merges.txt: the file is lost\n{packed.name} and copy: 1 difference\n",
    )


@pytest.mark.parametrize("at", [0, PIECE - 1, PIECE, 2 * PIECE + 6])
@pytest.mark.parametrize("large", [1 << 24, 1])
def test_stored_bytes_are_compared_to_the_last(
    tmp_path: Path, at: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_LARGE", large)  # from which on two threads read
    size = 2 * PIECE + 7
    content = np.arange(size + 3).astype(np.uint8)
    (tmp_path / "a").write_bytes(content[3:].tobytes())
    (tmp_path / "b").write_bytes(content.tobytes())
    one, two = Stored(tmp_path / "a", 0, size), Stored(tmp_path / "b", 3, size)
    assert one.equals(two)
    assert not one.equals(replace(two, size=size - 1))
    content[3 + at] ^= 1
    (tmp_path / "b").write_bytes(content.tobytes())
    assert not one.equals(two)


def test_equal_folders_are_not_mapped(
    copy: Callable[[Changed], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = copy(lambda _: None)
    monkeypatch.setattr(stored.Stored, "__call__", lambda _: pytest.fail("mapped"))
    assert mtpkit("diff", source, target)[0] == 0

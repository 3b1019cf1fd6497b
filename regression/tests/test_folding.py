"""The same finding is told once, with where it was seen."""

from dataclasses import replace
from typing import Any

import pytest

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.parallel import GRID
from mtp_regression.reporting.folding.fold import Folded, fold, fold_reasons, fold_warnings
from mtp_regression.reporting.folding.names import kind, patterns
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.stages.case import Stage

from .test_terminal import EXACT

MTP = "mtp.layers.0.mlp.experts"
ONE_BY_ONE = [f"{MTP}.{e}.{part}_proj.weight" for e in range(8) for part in ("down", "gate", "up")]
PACKED = [f"{MTP}.down_proj", f"{MTP}.gate_up_proj"]
LAYOUTS = [str(layout) for layout in GRID]


def failed(*findings: Finding, **fields: Any) -> Record:
    verdict = max((found.verdict for found in findings), key=lambda verdict: verdict.severity)
    return replace(EXACT, **{"verdict": verdict, "tensors": [*findings], "stage": Stage.STREAM, **fields})


def told(*records: Record) -> list[tuple[str, str]]:
    return [(str(one), one.places) for one in fold(records)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (ONE_BY_ONE, [f"{MTP}.{{0-7}}.{{gate,up,down}}_proj.weight"]),
        (PACKED, [f"{MTP}.{{gate_up,down}}_proj"]),
        (["a.0.x", "a.1.x", "a.3.x"], ["a.{0,1,3}.x"]),
        (["a.0.b.0", "a.1.b.1"], ["2 of a.{0,1}.b.{0,1}"]),
        (["linear_fc1.weight0", "linear_fc2.weight0"], ["linear_fc{1,2}.weight0"]),
        (["a.10", "a.9", "a.11"], ["a.{9-11}"]),
        (["l.in_proj_a", "l.in_proj_qkv", "other"], ["l.in_proj_{qkv,a}", "other"]),
        (["q_proj", "self.v_proj.weight", "self.k_proj.weight"], ["q_proj", "self.{k,v}_proj.weight"]),
        ([], []),
    ],
)
def test_pattern_of_names(names: list[str], expected: list[str]) -> None:
    assert [*map(str, patterns(names))] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "5 of 8 elements differ, first [0, 3]: 0x3c12 (0.5) instead of 0x3c98 (1e-05)",
            "70 of 99 elements differ, first [2]: 0xbc (-0.0) instead of 0x3 (nan)",
        ),
        ("shape [4, 8] instead of [2]", "shape [1] instead of []"),
        (
            "written in the other layout; a.0.gate_proj: 5 of",
            "written in the other layout; b.1.up_proj: 7 of",
        ),
        ("was loaded: mtp.fc.weight", "was loaded: layer 3"),
        ("names none of mtp.fc.weight, config.json", "names none of model.norm.weight"),
    ],
)
def test_details_of_one_kind(one: str, other: str) -> None:
    assert kind(one) == kind(other)
    assert kind(one) != kind("BF16 instead of F32, equal values")


def test_experts_ranks_layouts_and_stages_are_one() -> None:
    records = [
        failed(
            *(
                Finding(f"{MTP}.linear_fc1.weight{e}", Verdict.POISONED, f"{e} of 8 are NaN", rank=1, chunk=0)
                for e in range(8)
            ),
            parallel=layout,
            stage=stage,
            ranks=2,
        )
        for layout in LAYOUTS
        for stage in (Stage.NATIVE, Stage.RESHARDED)
    ]
    assert told(*records) == [
        (
            f"poisoned: 8 tensors, {MTP}.linear_fc1.weight{{0-7}}",
            "first in all 13 layouts: native, resharded; rank 1",
        )
    ]
    [one] = fold(records)
    assert one.example == f"rank 1, chunk 0, {MTP}.linear_fc1.weight0: 0 of 8 are NaN"
    assert (len(one.findings), len(one.seen)) == (8 * 26, 26)


def test_other_verdicts_details_and_origins_are_apart() -> None:
    several = [
        Finding("a.0", Verdict.WRONG, "5 of 8 elements differ"),
        Finding("a.1", Verdict.WRONG, "shape [1] instead of [2]"),
        Finding("a.2", Verdict.POISONED, "5 of 8 elements are NaN"),
        Finding("a.3", Verdict.WRONG, "7 of 8 elements differ", origin="transposed"),
        Finding("a.4", Verdict.WRONG, "2 of 8 elements differ", origin="transposed"),
    ]
    assert [str(one) for one in fold([failed(*several)])] == [
        "poisoned: a.2: 5 of 8 elements are NaN",
        "wrong: 2 tensors, a.{3,4}: transposed",
        "wrong: a.0: 5 of 8 elements differ",
        "wrong: a.1: shape [1] instead of [2]",
    ]


def test_the_gravest_and_then_the_widest_comes_first() -> None:
    narrow, wide = Finding("n", Verdict.WRONG, "narrow"), Finding("w", Verdict.WRONG, "wide")
    records = [
        failed(narrow, wide),
        failed(wide, parallel="tp2"),
        failed(Finding("c", Verdict.FLIP), parallel="tp2"),
    ]
    assert [str(one) for one in fold(records)] == ["wrong: w: wide", "wrong: n: narrow", "flip: c: flip"]


@pytest.mark.parametrize(
    ("cells", "places"),
    [
        ([("a", LAYOUTS), ("b", LAYOUTS)], "both checkpoints in all 13 layouts: stream"),
        ([("b", LAYOUTS[1:])], "b in all layouts but tp1: stream"),
        ([("a", [name for name in LAYOUTS if "pp2" in name.split()])], "a in all 5 layouts with pp2: stream"),
        ([("a", [name for name in LAYOUTS if " ep" in f" {name}"])], "a in all 7 layouts with ep: stream"),
        ([("a", ["tp1", "ep2"]), ("b", ["ep2"])], "a in tp1, ep2; b in ep2: stream"),
        ([("a", LAYOUTS[:7])], "a in tp1, tp2, pp2, pp2 vpp2, ... 7 layouts: stream"),
    ],
)
def test_places(cells: list[tuple[str, list[str]]], places: str) -> None:
    wrong = {(name, layout) for name, layouts in cells for layout in layouts}
    records = [
        failed(Finding("x", Verdict.WRONG), checkpoint=name, parallel=layout)
        if (name, layout) in wrong
        else replace(EXACT, checkpoint=name, parallel=layout)
        for name in ("a", "b")
        for layout in LAYOUTS
    ]
    assert [one.places for one in fold(records)] == [places]


def test_both_sides_of_a_flip_are_one() -> None:
    flip = [Finding(name, Verdict.FLIP, "written in the other layout, values exact") for name in PACKED]
    flip += [Finding(n, Verdict.FLIP, "the source has these experts in the other layout") for n in ONE_BY_ONE]
    said = f"2 tensors, {MTP}.{{gate_up,down}}_proj: in the other layout, as 24 tensors, {MTP}.{{0-7}}."
    assert told(failed(*flip)) == [(f"flip: {said}{{gate,up,down}}_proj.weight", "first in tp1: stream")]


def test_missing_and_unexpected_that_belong_together_are_one() -> None:
    def lost(name: str, rank: int | None = None) -> Finding:
        return Finding(name, Verdict.MISSING, rank=rank)

    def extra(name: str, rank: int | None = None) -> Finding:
        return Finding(name, Verdict.UNEXPECTED, "the source has no such tensor", rank=rank)

    renamed = failed(
        *(found(f"{top}.{n}.b.norm") for found, top in ((lost, "a"), (extra, "c")) for n in (0, 1))
    )
    assert told(renamed) == [
        (
            "missing: other names? 2 tensors expected, a.{0,1}.b.norm; unknown: 2 tensors, c.{0,1}.b.norm",
            "first in tp1: stream",
        )
    ]
    parts = failed(lost("decoder.x", 0), lost("decoder.y", 0), extra("trunk.z", 0), stage=Stage.NATIVE)
    assert [str(one) for one in fold([parts])] == [
        "missing: other names? 2 tensors expected, decoder.x, decoder.y; unknown: 1 tensor, trunk.z"
    ]
    layouts = failed(*map(lost, PACKED), *map(extra, ONE_BY_ONE[:9]))
    [one] = fold([layouts])
    assert (len(one.tensors), len(one.renamed)) == (2, 9)
    unlike = failed(lost("a.0.b.norm"), extra("c.0.d.weight"))
    elsewhere = failed(extra("c.0.b.norm"), parallel="tp2")
    assert len(fold([unlike])) == 2
    assert len(fold([failed(lost("a.0.b.norm")), elsewhere])) == 2
    assert len(fold([failed(lost("a.0.b.norm"), extra("c.0.b.norm"), extra("c.1.b.norm"))])) == 2


def crash(message: str, exception: str = "builtins.KeyError", **fields: Any) -> Record:
    why = Crash(Stage.LOAD, 0, "raised", exception, message, refused=False, text="")
    return replace(EXACT, verdict=why.verdict, crash=why, **fields)


def test_crashes_are_one_but_for_numbers_paths_and_names() -> None:
    records = [
        crash(
            f"layer {n} of /tmp/run{n}/x.safetensors: no mtp.layers.0.experts.{n}.up_proj", parallel=f"tp{n}"
        )
        for n in (1, 2)
    ]
    assert [one.places for one in fold(records)] == ["first in both layouts: native"]
    assert len(fold([crash("no room"), crash("no memory")])) == 2
    assert len(fold([crash("no room"), crash("no room", "builtins.OSError")])) == 2


def test_stale_exceptions_and_empty_comparisons_are_told() -> None:
    stale = replace(EXACT, stale=["a.0: reason", "a.1: reason", "b: another"])
    assert [str(one) for one in fold([stale, replace(EXACT, parallel="tp2", compared=0)])] == [
        "stale exception: 2 tensors, a.{0,1}: reason",
        "stale exception: b: another",
        "nothing was compared",
    ]


def test_warnings_of_failed_records_are_told_once() -> None:
    warned = [f"no {name}" for name in ONE_BY_ONE]
    records = [replace(EXACT, warnings=["not told"]), failed(Finding("x", Verdict.WRONG), warnings=warned)]
    assert fold_warnings(records) == [f"no {MTP}.{{0-7}}.{{gate,up,down}}_proj.weight (24 like this)"]


def test_what_was_not_run_is_told_by_reason() -> None:
    not_run = {"native": "no coordinates", "saved": "no save", "files": "no save"}
    assert fold_reasons(not_run) == ["native: no coordinates", "saved, files: no save"]
    assert fold_reasons({}) == []


def test_what_passed_and_what_is_declared_is_not_told() -> None:
    known = Finding("known", Verdict.DTYPE, declared=True)
    folded: list[Folded] = fold(
        [EXACT, failed(known, Finding("x", Verdict.WRONG)), replace(EXACT, tensors=[known])]
    )
    assert [one.tensors for one in folded] == [["x"]]

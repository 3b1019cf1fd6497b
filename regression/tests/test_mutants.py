"""Every mutant is seen by the stages that are meant to see it, and by no other; the right bridge by none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.in_memory.conversions import BF16
from mtp_regression.maintenance.mutants_page import page
from mtp_regression.mutants import run
from mtp_regression.mutants.criteria import CRITERIA, close
from mtp_regression.mutants.run import Result, results
from mtp_regression.mutants.table import MUTANTS

pytestmark = pytest.mark.xdist_group("mutants")


@pytest.fixture(scope="module")
def scored() -> list[Result]:
    return list(results([*MUTANTS.values()]))


def test_every_mutant_is_seen_by_the_stages_that_are_meant_to(scored: list[Result]) -> None:
    assert len(scored) == len(MUTANTS) >= 50
    assert {one.name: {*one.seen_by} for one in scored} == {
        name: {*map(str, mutant.seen_by)} for name, mutant in MUTANTS.items()
    }


def test_the_right_bridge_passes_everywhere() -> None:
    found = [*results([*MUTANTS.values()], right=True)]
    assert len(found) > 20
    assert not [one for one in found if one.killed or any(one.criteria.values())]


def test_a_sentence_says_what_a_wrong_tensor_holds(scored: list[Result]) -> None:
    assert not [one.name for one in scored if not one.explained]


def test_the_page_is_what_the_command_prints(scored: list[Result]) -> None:
    file = Path(__file__).parents[2] / "docs" / "mutants.md"
    assert file.read_text(encoding="utf-8") == page(scored)


def test_missing_sentence_is_told_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = next(mutant for mutant in MUTANTS.values() if mutant.origin)
    seen_by = [str(stage) for stage in mutant.seen_by]
    one = Result(mutant.name, seen_by, "", dict.fromkeys(CRITERIA, False), ["a: other", "b: NaN"])
    monkeypatch.setattr(run, "results", lambda _mutants, right=False: iter([] if right else [one]))
    done = CliRunner().invoke(app, ["mutants", mutant.name])
    assert done.exit_code == 1
    told = f"{mutant.name}: no sentence on a wrong tensor has {mutant.origin!r}; found: a: other; b: NaN"
    assert told in done.stdout.splitlines()
    assert "meant for" not in done.stdout


def test_names_and_sentences() -> None:
    for name, mutant in MUTANTS.items():
        assert name == mutant.name
        assert mutant.about.endswith(".")
        assert mutant.seen_by


def raw(values: Any, dtype: Any) -> RawTensor:
    return RawTensor.from_array(np.array(values, dtype))


def bf16(*values: float) -> RawTensor:
    return raw(values, BF16)


SOURCE = {"a": bf16(0.5, -1, 2), "mtp.b": bf16(0.01, 0, 0)}


@pytest.mark.parametrize(
    ("exported", "passing"),
    [
        (SOURCE, {"Megatron-Bridge", "mbridge", "Automodel"}),
        ({"a": SOURCE["a"]}, {"Megatron-Bridge"}),
        (SOURCE | {"c": bf16(1)}, set()),
        (SOURCE | {"mtp.b": bf16(0, 0, 0)}, {"Megatron-Bridge"}),
        (SOURCE | {"mtp.b": bf16(0.01, 0.0005, 0)}, {"Megatron-Bridge", "mbridge"}),
        (SOURCE | {"a": bf16(0.5, -1, np.nan)}, set()),
        (SOURCE | {"a": bf16(0.5, -1, 2.015625)}, {"Megatron-Bridge", "Automodel"}),
        (SOURCE | {"a": bf16(0.5, -1)}, set()),
        (SOURCE | {"a": raw([[0.5, -1, 2]], BF16)}, {"Megatron-Bridge"}),
        (SOURCE | {"a": raw([0.5, -1, 2], np.float32)}, {"Megatron-Bridge", "mbridge"}),
    ],
)
def test_criteria_of_others(exported: dict[str, RawTensor], passing: set[str]) -> None:
    assert {name for name, criterion in CRITERIA.items() if criterion.passes(SOURCE, exported)} == passing


def test_closeness_is_relative_to_the_expected_value() -> None:
    one, other = np.array([1.0]), np.array([2.0])
    assert close(one, other, atol=0, rtol=0.5)
    assert not close(other, one, atol=0, rtol=0.5)
    assert close(np.array([np.inf]), np.array([np.inf]), atol=0, rtol=0)
    assert not close(np.array([1.0]), np.array([np.inf]), atol=1, rtol=1)

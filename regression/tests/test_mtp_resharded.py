"""The stage of Megatron checkpoints: saved in one layout, loaded in another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.ranks.parallel import GRID, read_layout
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.stages.case import ONE_LAYOUT, Stage

Job = Callable[..., tuple[int, dict[str, Any]]]

Q36 = "qwen3.6-35b-a3b"


@pytest.fixture
def resharded(checkpoints: dict[str, Path], main_job: Job) -> Callable[..., dict[str, Any]]:
    """The one record of a case with two layouts."""

    def run(adapter: str, parallel: str) -> dict[str, Any]:
        options = ("--adapter", f"stage_saboteurs:{adapter}", "--parallel", parallel)
        exit_code, report = main_job(checkpoints[Q36], *options)
        [record] = report["records"]
        assert (record["stage"], record["parallel"]) == ("resharded", parallel)
        assert exit_code == (0 if record["passed"] else 1)
        return dict(record)

    return run


@pytest.mark.megatron
def test_experts_that_change_places_are_found_on_the_ranks_and_in_both_exports(
    resharded: Callable[..., dict[str, Any]],
) -> None:
    record = resharded("SwapsExpertsOfACheckpoint", "tp2 to ep2")
    assert record["verdict"] == "wrong"
    held = {(found["rank"], found["tensor"]) for found in record["tensors"] if found["rank"] is not None}
    weights = [f"mtp.layers.0.mlp.experts.linear_fc2.weight{number}" for number in (0, 1)]
    assert held == {(rank, weight) for rank in (0, 1) for weight in weights}
    exported = [found["tensor"] for found in record["tensors"] if found["rank"] is None]
    assert set(exported) == {"mtp.layers.0.mlp.experts.down_proj"}


@pytest.mark.megatron
def test_what_is_not_loaded_is_poisoned(resharded: Callable[..., dict[str, Any]]) -> None:
    record = resharded("LoadsNoFinalNorm", "tp1 to tp2")
    assert record["verdict"] == "poisoned"
    assert {found["tensor"] for found in record["tensors"]} == {
        "decoder.final_layernorm.weight",
        "model.language_model.norm.weight",
    }


@pytest.mark.megatron
def test_correct_bridge_passes_from_one_rank_to_many(resharded: Callable[..., dict[str, Any]]) -> None:
    record = resharded("NoOracle", "tp1 to ep2")
    assert record["passed"]
    assert record["compared"] > 0


def request(*texts: str, stages: tuple[Stage, ...] = (), tmp_path: Path = Path()) -> Request:
    layouts = [read_layout(text) for text in texts]
    return Request(adapter="a:B", report_path=tmp_path, parallels=layouts, stages=stages)


@pytest.mark.parametrize(
    ("texts", "taken"),
    [
        (("ep2",), [*ONE_LAYOUT]),
        (("ep2 to tp2",), [Stage.RESHARDED]),
        (("ep2", "ep2 to tp2"), [*ONE_LAYOUT, Stage.RESHARDED]),
        ((), [*ONE_LAYOUT]),
    ],
)
def test_stages_follow_the_layouts(texts: tuple[str, ...], taken: list[Stage]) -> None:
    assert request(*texts).checks((), GRID) == (taken, {})


@pytest.mark.parametrize(
    ("texts", "stages"),
    [
        (("ep2",), (Stage.RESHARDED,)),
        (("ep2",), (Stage.NATIVE, Stage.RESHARDED)),
        (("ep2 to tp2",), (Stage.NATIVE,)),
        (("ep2", "ep2 to tp2"), (Stage.NATIVE,)),
    ],
)
def test_stage_and_layout_that_do_not_fit_are_refused(
    texts: tuple[str, ...], stages: tuple[Stage, ...]
) -> None:
    with pytest.raises(CannotRunError, match="stage resharded takes two layouts, like 'ep2 to tp2'"):
        request(*texts, stages=stages).checks((), GRID)


def test_bridge_without_megatron_checkpoints_cannot_take_the_stage() -> None:
    for texts in (("ep2 to tp2",), ("ep2", "ep2 to tp2")):
        with pytest.raises(CannotRunError, match="ep2 to tp2 has no stage to take: a:B has no load_megatron"):
            request(*texts).checks(("load_megatron",), GRID)

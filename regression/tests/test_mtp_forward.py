"""The stage that compares logits with transformers': right models agree, and it alone sees wrong ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.forward.agreement import BOUND, Computed, differences, disagreements
from mtp_regression.forward.batches import images, text
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.stages.case import Stage

Job = Callable[..., tuple[int, dict[str, Any]]]

Q36 = "qwen3.6-35b-a3b"
FAULTS = "mtp_regression.maintenance.forward.faults:"


@pytest.fixture
def computed(checkpoints: dict[str, Path], main_job: Job) -> Callable[..., dict[str, dict[str, Any]]]:
    """The records of an adapter by stage: what the ranks hold, the stream, and what is computed."""

    def run(adapter: str, parallel: str = "tp1", checkpoint: str = Q36) -> dict[str, dict[str, Any]]:
        stages = [f"--stage={stage}" for stage in ("native", "stream", "forward")]
        options = ("--adapter", adapter, "--parallel", parallel)
        _, report = main_job(checkpoints[checkpoint], *stages, *options)
        return {record["stage"]: record for record in report["records"]}

    return run


Run = Callable[..., dict[str, dict[str, Any]]]


@pytest.mark.megatron
@pytest.mark.parametrize("parallel", ["pp2 Ett|ttmL", "tp2 etp2", "cp2"])
def test_right_model_agrees_far_below_the_bound(computed: Run, parallel: str) -> None:
    record = computed("mtp_regression.adapters.megatron_bridge:PatchedMegatronBridge", parallel)["forward"]
    assert record["passed"], record["tensors"]
    assert set(record["agreement"]) == {"main", "mtp.0"}
    assert 0 < max(record["agreement"].values()) < BOUND / 10
    assert record["compared"] >= 2 * (88 + 72)


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("RotaryBaseOfLlama", {"main", "mtp.0"}),
        ("EpsilonOfLayerNorm", {"main", "mtp.0"}),
        ("OneMoreExpert", {"main", "mtp.0"}),
        ("MtpHalvesSwapped", {"mtp.0"}),
        ("MtpBeforeTheFinalNorm", {"mtp.0"}),
        ("SharedExpertWithoutGate", {"main", "mtp.0"}),
        ("PadsAttendedTo", {"main", "mtp.0"}),
        ("RotaryAxesSwapped", {"main", "mtp.0"}),
    ],
)
def test_wrong_model_is_seen_in_its_logits_alone(computed: Run, fault: str, wrong: set[str]) -> None:
    records = computed(FAULTS + fault)
    assert [records[stage]["verdict"] for stage in ("native", "stream")] == ["exact", "exact"]
    assert records["forward"]["verdict"] == "differs"
    assert {found["tensor"].removeprefix("logits: ") for found in records["forward"]["tensors"]} == wrong
    figures = records["forward"]["agreement"]
    assert all((figures[name] > 10 * BOUND) == (name in wrong) for name in figures)


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("saboteur", "detail"),
    [
        ("ComputesNothing", "no rank has any"),
        ("ComputesNoMtp", "the bridge's model computes none"),
        ("ComputesAndForgets", "the forward pass has changed this parameter"),
    ],
)
def test_what_is_not_computed_is_missing(computed: Run, saboteur: str, detail: str) -> None:
    record = computed(f"stage_saboteurs:{saboteur}")["forward"]
    assert not record["passed"]
    assert [found["detail"] for found in record["tensors"]] == [detail]


def reference(*shape: int) -> Computed:
    draw = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(*shape, 16, generator=draw) for name in ("main", "mtp.0")}
    return Computed(logits, torch.ones(*shape, dtype=torch.bool))


def test_difference_is_the_largest_of_the_spread() -> None:
    expected = reference(2, 5)
    found = {name: logits.clone() for name, logits in expected.logits.items()}
    found["main"][1, 3, 7] += 0.5
    measured = differences(expected, found)
    assert measured["mtp.0"] == 0
    assert measured["main"] == pytest.approx(0.5 / expected.logits["main"].std().item(), rel=1e-5)
    [finding] = disagreements(expected, measured)
    assert (finding.tensor, finding.verdict) == ("logits: main", Verdict.DIFFERS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_differs(value: float) -> None:
    expected = reference(2, 5)
    found = {name: logits.clone() for name, logits in expected.logits.items()}
    found["mtp.0"][0, 0, 0] = value
    measured = differences(expected, found)
    assert [finding.tensor for finding in disagreements(expected, measured)] == ["logits: mtp.0"]


def test_padded_vocabulary_is_cut_and_another_shape_differs() -> None:
    expected = reference(2, 5)
    padded = {name: torch.cat([of, of], dim=-1) for name, of in expected.logits.items()}
    assert differences(expected, padded) == {"main": 0, "mtp.0": 0}
    short = {name: of[..., :8] for name, of in expected.logits.items()}
    assert set(differences(expected, short).values()) == {float("inf")}


def test_positions_after_a_near_tie_are_not_compared() -> None:
    expected = reference(2, 5)
    decided = expected.decided.clone()
    decided[1, 3:] = False
    expected = Computed(expected.logits, decided)
    found = {name: logits.clone() for name, logits in expected.logits.items()}
    found["main"][1, 4] += 1
    assert differences(expected, found)["main"] == 0
    assert expected.positions == 8
    found["main"][1, 2] += 5
    assert differences(expected, found)["main"] > 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"device": Device.CUDA}, "computes on the CPU"), ({"generated": True}, "from disk")],
)
def test_where_it_cannot_be_compared_the_reason_is_told(options: dict[str, Any], reason: str) -> None:
    request = Request(adapter="a:B", report_path=Path(), **options)
    left, not_run = request.checks((), GRID)
    assert Stage.FORWARD not in left
    assert reason in not_run[Stage.FORWARD]
    named = Request(adapter="a:B", report_path=Path(), stages=(Stage.FORWARD,), **options)
    with pytest.raises(CannotRunError, match=reason):
        named.checks((), GRID)


def test_batches_differ_by_seed_and_have_what_the_model_sees() -> None:
    vision = {"spatial_merge_size": 2, "in_channels": 3, "temporal_patch_size": 2, "patch_size": 4}
    names = ("vision_start", "image", "video", "vision_end")
    tokens = {f"{name}_token_id": number for number, name in enumerate(names, start=96)}
    config = {"text_config": {"vocab_size": 100}, "vision_config": vision, **tokens}
    one, other = images(config, 0), images(config, 1)
    assert not torch.equal(one["input_ids"], other["input_ids"])
    assert torch.equal(one["input_ids"], images(config, 0)["input_ids"])
    assert [[int((row == seen).sum()) for seen in (97, 98)] for row in one["input_ids"]] == [[4, 0], [0, 6]]
    assert one["pixel_values"].shape == (16, 3 * 2 * 4 * 4)
    assert one["pixel_values_videos"].shape == (24, 3 * 2 * 4 * 4)
    assert one["image_grid_thw"].tolist() == [[1, 4, 4]]
    assert one["video_grid_thw"].tolist() == [[1, 4, 6]]
    assert set(text(config, 0)) == {"input_ids", "attention_mask"}
    assert text(config, 0)["input_ids"].max() < 96


def test_rows_have_different_lengths_and_padding_that_is_drawn() -> None:
    batch = text({"vocab_size": 100}, 0)
    assert batch["attention_mask"].sum(dim=1).tolist() == [88, 72]
    assert batch["attention_mask"][1].tolist() == 72 * [1] + 16 * [0]
    assert len(batch["input_ids"][1, 72:].unique()) > 4

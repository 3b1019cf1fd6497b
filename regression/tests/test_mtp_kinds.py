"""Kinds of batches, and context parallelism: right models agree with transformers, and wrong ones do not."""

import json
from pathlib import Path
from typing import Any

import pytest
import te_jobs
import torch

from mtp_bridge_patch.releases import ENVIRONMENTS, is_at_least
from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.forward.batches import draw, packed, padded_before, positioned
from mtp_regression.maintenance.fields import kinds
from mtp_regression.maintenance.fields.changes import MODELS
from mtp_regression.maintenance.fields.measure import measure
from mtp_regression.megatron.te_attention import own_of_packed, own_positions
from mtp_regression.plugin import OnRanks

CONFIG = {"vocab_size": 1000}
TEXT, SEEING = "text-only MoE", "MoE"


def test_padding_before_a_row_leaves_its_tokens_in_order() -> None:
    rows, moved = draw(CONFIG, 0), padded_before(CONFIG, 0)
    assert moved["attention_mask"].sum(dim=1).tolist() == [88, 72]
    assert moved["attention_mask"][1].tolist() == 16 * [0] + 72 * [1]
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(moved[name][0], rows[name][0])
    assert torch.equal(moved["input_ids"][1, 16:], rows["input_ids"][1, :72])


def test_positions_rise_and_are_others_in_time_height_and_width() -> None:
    positions = positioned(CONFIG, 0)["position_ids"]
    assert positions.shape == (3, 2, 88)
    assert ((positions.diff(dim=-1) >= 0) & (positions.diff(dim=-1) <= 2)).all()
    assert all(not torch.equal(positions[axis], positions[axis - 1]) for axis in range(3))


def test_packed_row_is_the_rows_without_their_padding() -> None:
    rows, row = draw(CONFIG, 0)["input_ids"], packed(CONFIG, 0)
    assert set(row) == {"input_ids", "cu_seq_lens_q"}
    assert row["cu_seq_lens_q"].tolist() == [0, 88, 160]
    assert torch.equal(row["input_ids"], torch.cat([rows[0], rows[1, :72]])[None])


def test_context_parallel_ranks_have_chunks_from_both_ends() -> None:
    assert own_positions(8, 0, 2).tolist() == [0, 1, 6, 7]
    assert own_positions(8, 1, 2).tolist() == [2, 3, 4, 5]
    assert own_of_packed(torch.tensor([0, 8, 12]), 1, 2).tolist() == [2, 3, 4, 5, 9, 10]
    with pytest.raises(ValueError, match="6 tokens cannot be cut into 4 chunks"):
        own_positions(6, 0, 2)


@pytest.mark.parametrize("release", ENVIRONMENTS)
def test_only_what_megatron_does_not_know_differs(release: str) -> None:
    known = json.loads((kinds.KNOWN / f"{release}.json").read_text())
    assert list(known) == [*kinds.names()]
    for name, cell in known.items():
        kind = name.partition(": ")[2]
        ignored = kind == "padded before" or (kind == "positions" and not is_at_least(release, "0.6.0"))
        assert (cell == "differs") == ignored, name
        assert cell in ("agrees", "differs") or cell.startswith("refuses: "), name


def cells(on_ranks: OnRanks, folder: Path, model: str, name: str, *faults: str) -> list[tuple[str, ...]]:
    """What each rank finds of the right model, and of wrong ones."""
    kind = kinds.KINDS[name]
    checkpoint = MODELS[model].write(folder / "checkpoint")
    adapters = (PATCHED_MEGATRON_BRIDGE, *(f"{kinds.FAULTS}:{fault}" for fault in faults))
    arguments: tuple[Any, ...] = (checkpoint, adapters, ("context-parallel",), kind.draw, kind.parallel)
    return [measured.cells for measured in on_ranks(measure, *arguments)]


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("model", "kind"), [(SEEING, "positions"), (SEEING, "packed"), (TEXT, "packed"), (TEXT, "padded")]
)
def test_wrong_models_differ(on_ranks: OnRanks, tmp_path: Path, model: str, kind: str) -> None:
    faults = kinds.KINDS[kind].faults
    assert faults
    assert cells(on_ranks, tmp_path, model, kind, *faults) == [("agrees", *(len(faults) * ["differs"]))]


@pytest.mark.megatron
@pytest.mark.ranks(2)
@pytest.mark.parametrize("kind", ["cp2", "packed, cp2"])
@pytest.mark.parametrize("model", [SEEING, TEXT])
def test_wrong_context_parallel_models_differ(
    on_ranks: OnRanks, tmp_path: Path, model: str, kind: str
) -> None:
    faults = kinds.KINDS[kind].faults
    assert cells(on_ranks, tmp_path, model, kind, *faults) == 2 * [("agrees", *(len(faults) * ["differs"]))]


@pytest.mark.megatron
def test_what_cannot_be_computed_over_ranks_is_told(on_ranks: OnRanks) -> None:
    [message] = on_ranks(te_jobs.refusal_of_an_older_model)
    assert message.startswith("no forward pass over 2 context-parallel ranks: before Megatron-Bridge 0.6 the")

"""A model is built in the memory that it has afterwards, not with its decoder twice."""

from pathlib import Path
from typing import Any

import build_memory
import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.plugin import OnRanks
from mtp_regression.ranks.parallel import Parallel

pytestmark = pytest.mark.megatron

BUFFERS = 10_000
"""Bytes of what has no name below, of a model with millions."""


def built(on_ranks: OnRanks, checkpoint: Path, parallel: str, *skip: str) -> list[dict[str, Any]]:
    ranks = Parallel.parse(parallel).ranks
    return on_ranks(build_memory.build, str(checkpoint), parallel, skip, ranks=ranks)


@pytest.mark.parametrize("parallel", ["tp1", "ep2", "pp2 vpp2", "pp2 E|ttttmL"])
def test_decoder_is_in_memory_once(on_ranks: OnRanks, checkpoints: dict[str, Path], parallel: str) -> None:
    checkpoint = checkpoints["qwen3.6-35b-a3b"]
    as_it_is = built(on_ranks, checkpoint, parallel, "decoder-once")
    patched = built(on_ranks, checkpoint, parallel)
    for before, after in zip(as_it_is, patched, strict=True):
        sizes = after["bytes"]
        tower = sizes.get("0/vision_model", 0)  # is made in float32, and cast when all else is there
        assert after["peak"] == pytest.approx(sum(sizes.values()) + tower, abs=BUFFERS)
        decoders = [size for part, size in sizes.items() if part.endswith("/decoder")] or [0]
        assert before["peak"] - after["peak"] == pytest.approx(decoders[-1], abs=BUFFERS)
        for what in ("bytes", "parameters", "keys"):
            assert after[what] == before[what], what


def test_text_only_model_has_one_decoder_as_it_is(on_ranks: OnRanks, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint("qwen3.6-35b-a3b", text_only=True)
    (found,) = built(on_ranks, checkpoint, "tp1", "decoder-once")
    assert found["peak"] == pytest.approx(sum(found["bytes"].values()), abs=BUFFERS)

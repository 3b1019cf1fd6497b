"""What one rank raises in a load, an export or a save of the patched bridge, all do; the next is as ever."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from failing_ranks import Told, export, load, save

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.plugin import OnRanks
from mtp_regression.ranks.parallel import Parallel

pytestmark = pytest.mark.megatron

GONE, FULL, DENIED = (
    ("OSError", "[Errno 5] gone"),
    ("OSError", "[Errno 28] no more"),
    ("PermissionError", "[Errno 13] not yours"),
)
Q36, Q08 = "qwen3.6-35b-a3b", "qwen3.5-0.8b"
NOTHING: Told = ("", "", [])


def check(results: Sequence[tuple[Told, Told]], rank: int, error: tuple[str, str]) -> None:
    """Check that all ranks tell of one rank's error, and of nothing the second time."""
    for other, (first, second) in enumerate(results):
        notes = [] if other == rank else [f"(raised by rank {rank}, and so by all)"]
        assert first == (*error, notes)
        assert second == NOTHING


@pytest.mark.parametrize(
    ("preset", "parallel", "failure", "rank", "error"),
    [
        (Q36, "tp2", "headers", 1, GONE),
        (Q36, "tp2", "shard", 0, FULL),
        (Q36, "tp2 ep2", "shard", 1, FULL),
        (Q36, "tp2", "shape", 0, FULL),
        (Q08, "tp2 pp2", "headers", 3, GONE),
        (Q08, "tp2 pp2", "shard", 0, FULL),
        (Q08, "tp2 pp2", "shard", 3, FULL),
        (Q36, "ep4", "shard", 2, FULL),
    ],
)
def test_load_fails_on_all_ranks(
    preset: str,
    parallel: str,
    failure: str,
    rank: int,
    error: tuple[str, str],
    make_checkpoint: MakeCheckpoint,
    on_ranks: OnRanks,
) -> None:
    checkpoint, ranks = make_checkpoint(preset), Parallel.parse(parallel).ranks
    check(on_ranks(load, str(checkpoint), parallel, failure, rank, ranks=ranks), rank, error)


@pytest.mark.parametrize(
    ("preset", "parallel", "failure", "rank"),
    [
        (Q36, "tp2", "headers", 1),
        (Q36, "tp2", "tasks", 0),
        (Q36, "tp2", "column", 0),
        (Q36, "tp2 ep2", "gathered", 1),
        (Q36, "ep4", "changed", 2),
        (Q36, "ep2 pp2", "column", 3),
        (Q08, "tp2 pp2", "column", 0),
        (Q08, "tp2 pp2", "changed", 3),
    ],
)
def test_export_fails_on_all_ranks(
    preset: str, parallel: str, failure: str, rank: int, make_checkpoint: MakeCheckpoint, on_ranks: OnRanks
) -> None:
    checkpoint, ranks = make_checkpoint(preset), Parallel.parse(parallel).ranks
    error = GONE if failure == "headers" else FULL
    check(on_ranks(export, str(checkpoint), parallel, failure, rank, ranks=ranks), rank, error)


@pytest.mark.parametrize(
    ("parallel", "failure", "rank", "options", "error"),
    [
        ("tp2", "artifacts", 0, {}, DENIED),
        ("tp2 pp2", "artifacts", 0, {}, DENIED),
        ("tp2", "disk", 0, {}, FULL),
        ("tp2 pp2", "disk", 0, {}, FULL),
        ("tp2", "index", 0, {}, ("OSError", "[Errno 28] full")),
        ("tp2", "disk", 1, {"distributed_save": True}, FULL),
        ("tp2", "index", 0, {"distributed_save": True}, ("OSError", "[Errno 28] full")),
    ],
)
def test_save_fails_on_all_ranks(
    parallel: str,
    failure: str,
    rank: int,
    options: dict[str, Any],
    error: tuple[str, str],
    checkpoints: dict[str, Path],
    tmp_path: Path,
    on_ranks: OnRanks,
) -> None:
    ranks = Parallel.parse(parallel).ranks
    arguments = (str(checkpoints[Q36]), parallel, str(tmp_path), failure, rank, options)
    check(on_ranks(save, *arguments, ranks=ranks), rank, error)

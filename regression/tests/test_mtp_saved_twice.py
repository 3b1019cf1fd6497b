"""A folder that is saved into twice holds the second checkpoint, and tells of what is left of the first."""

from pathlib import Path

import pytest
from saves import save_all

from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_fixtures import Sharding
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.comparison.verdicts import Finding
from mtp_regression.plugin import OnRanks

pytestmark = pytest.mark.megatron
SHARDED: dict[str, object] = {"seed": 1}
ONE_FILE: dict[str, object] = {"sharding": Sharding.SINGLE}
FEWER: dict[str, object] = {"shard_limit": 4_000_000}


def saved(
    adapter: str, options: list[dict[str, object]], folder: Path, make: MakeCheckpoint, on_ranks: OnRanks
) -> list[Finding]:
    checkpoints = [make("qwen3.6-35b-a3b", **one) for one in options]  # type: ignore[arg-type]
    on_ranks(save_all, adapter, checkpoints, folder)
    return compare(read_folder(checkpoints[-1]), read_folder(folder).items())


@pytest.mark.parametrize("second", [ONE_FILE, FEWER])
def test_second_save_is_what_is_read(
    second: dict[str, object], tmp_path: Path, make_checkpoint: MakeCheckpoint, on_ranks: OnRanks
) -> None:
    assert (
        saved(PATCHED_MEGATRON_BRIDGE, [SHARDED, second], tmp_path / "out", make_checkpoint, on_ranks) == []
    )
    notes = read_checkpoint(tmp_path / "out").notes
    assert notes[0].startswith("model.safetensors.index.json does not name ")
    assert "total_size" not in "".join(notes)


def test_one_file_saved_into_an_empty_folder_has_no_index(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, on_ranks: OnRanks
) -> None:
    assert saved(PATCHED_MEGATRON_BRIDGE, [ONE_FILE], tmp_path / "out", make_checkpoint, on_ranks) == []
    assert read_checkpoint(tmp_path / "out").index is None


def test_upstream_leaves_the_first_index(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, on_ranks: OnRanks
) -> None:
    assert saved(MEGATRON_BRIDGE, [SHARDED, ONE_FILE], tmp_path / "out", make_checkpoint, on_ranks)

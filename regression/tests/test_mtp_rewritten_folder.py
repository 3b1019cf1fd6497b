"""A folder in which another checkpoint was put meanwhile is loaded as what it is now."""

from pathlib import Path
from typing import Any

import pytest
from rewritten_folder import load_each

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.plugin import OnRanks

pytestmark = pytest.mark.megatron

NO_MTP: dict[str, Any] = {"mtp_layers": 0}
PACKED: dict[str, Any] = {}
PER_EXPERT: dict[str, Any] = {"mtp_experts": "per-expert", "seed": 1}
ONE_FILE: dict[str, Any] = {"sharding": "single", "seed": 2}


def test_each_checkpoint_of_one_folder_is_exact(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, on_ranks: OnRanks
) -> None:
    """With MTP and without, in both layouts, with an index and without, all in one process."""
    checkpoints = [
        str(make_checkpoint("qwen3.6-35b-a3b", **options))
        for options in (NO_MTP, PACKED, PER_EXPERT, ONE_FILE, PACKED, NO_MTP)
    ]
    (found,) = on_ranks(load_each, PATCHED_MEGATRON_BRIDGE, str(tmp_path / "folder"), checkpoints)
    assert found == [[]] * len(checkpoints)

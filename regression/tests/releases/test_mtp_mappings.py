"""The mappings of MTP parameters that a release resolves for each layout, as it is and with the patch."""

from pathlib import Path

import pytest
from resolved_mappings import mtp_mappings
from syrupy.assertion import SnapshotAssertion

from mtp_regression.plugin import OnRanks

pytestmark = pytest.mark.megatron


@pytest.mark.parametrize("patched", [False, True], ids=["upstream", "patched"])
@pytest.mark.parametrize("checkpoint", ["qwen3.5-35b-a3b", "qwen3.6-35b-a3b"])
def test_mtp_mappings(
    checkpoint: str,
    patched: bool,
    checkpoints: dict[str, Path],
    on_ranks: OnRanks,
    snapshot: SnapshotAssertion,
) -> None:
    (mappings,) = on_ranks(mtp_mappings, str(checkpoints[checkpoint]), patched)
    assert mappings == snapshot

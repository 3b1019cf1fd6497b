"""The mappings of MTP parameters that a release resolves for each layout, as it is and with the patch."""

import importlib
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from mtp_regression.ranks import run as ranks

pytestmark = pytest.mark.xdist_group("megatron")


@pytest.mark.usefixtures("main_job")  # its fork server serves here too
@pytest.mark.parametrize("patched", [False, True], ids=["upstream", "patched"])
@pytest.mark.parametrize("checkpoint", ["qwen3.5-35b-a3b", "qwen3.6-35b-a3b"])
def test_mtp_mappings(
    checkpoint: str,
    patched: bool,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: SnapshotAssertion,
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (mappings,) = ranks.run(
        importlib.import_module("mtp_mappings").mtp_mappings,
        str(checkpoints[checkpoint]),
        patched,
        world_size=1,
        time_limit=60,
        log_folder=tmp_path,
        preload=["mtp_regression.adapters.megatron_bridge"],
    )
    assert mappings == snapshot

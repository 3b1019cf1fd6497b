"""Megatron's own checkpoints, saved and loaded on the CPU with the stand-in for TransformerEngine."""

import importlib
from pathlib import Path

import pytest

from mtp_regression.ranks import run as ranks


@pytest.mark.xdist_group("megatron")
@pytest.mark.parametrize("parallel", ["tp1", "ep2"])
def test_moe_model_comes_back_from_a_megatron_checkpoint(
    parallel: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Experts are saved one by one, each with a share of its module's `_extra_state`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        results = ranks.run(
            importlib.import_module("megatron_checkpoint").save_and_load,
            *(str(checkpoints["qwen3.6-35b-a3b"]), parallel, str(tmp_path / "megatron")),
            world_size=int(parallel[2:]),
            time_limit=240,
            log_folder=tmp_path / "logs",
            preload=["mtp_regression.adapters.megatron_bridge"],
        )
    for result in results:
        assert result["findings"] == []
        assert result["experts"] > 0

"""Megatron's own checkpoints, saved and loaded on the CPU with the stand-in for TransformerEngine."""

from pathlib import Path

import pytest
from megatron_checkpoint import save_and_load

from mtp_regression.plugin import OnRanks


@pytest.mark.megatron
@pytest.mark.parametrize("parallel", ["tp1", "ep2"])
def test_moe_model_comes_back_from_a_megatron_checkpoint(
    parallel: str, checkpoints: dict[str, Path], on_ranks: OnRanks, tmp_path: Path
) -> None:
    """Experts are saved one by one, each with a share of its module's `_extra_state`."""
    arguments = (str(checkpoints["qwen3.6-35b-a3b"]), parallel, str(tmp_path / "megatron"))
    results = on_ranks(save_and_load, *arguments, ranks=int(parallel[2:]), time_limit=240)
    for result in results:
        assert result["findings"] == []
        assert result["experts"] > 0

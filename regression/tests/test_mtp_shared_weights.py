"""With two MTP layers, what the checkpoint has once is exported only while the layers' copies agree."""

import pytest
from shared_weights import change_each

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.plugin import OnRanks
from mtp_regression.ranks.parallel import Parallel

pytestmark = pytest.mark.megatron

SHARED = {
    "eh_proj.weight": "mtp.fc.weight",
    "enorm.weight": "mtp.pre_fc_norm_embedding.weight",
    "hnorm.weight": "mtp.pre_fc_norm_hidden.weight",
    "final_layernorm.weight": "mtp.norm.weight",
}
"""A layer's copy in Megatron-Core, and the checkpoint's one tensor."""


@pytest.mark.parametrize("parallel", ["tp1", "tp2", "pp2"])
def test_changed_copy_of_a_shared_weight_is_an_error(
    parallel: str, make_checkpoint: MakeCheckpoint, on_ranks: OnRanks
) -> None:
    """On every rank, those without MTP layers too: one that goes on would wait for the others."""
    copies = {f"mtp.layers.{layer}.{end}": key for layer in (0, 1) for end, key in SHARED.items()}
    checkpoint = make_checkpoint("qwen3.6-35b-a3b", mtp_layers=2)
    ranks = Parallel.parse(parallel).ranks
    results = on_ranks(change_each, str(checkpoint), parallel, list(copies), ranks=ranks)
    for said, findings in results:
        assert findings == []
        assert said.keys() == copies.keys()
        for copy, key in copies.items():
            other = copy.replace("layers.0.", "layers.1.")
            assert f"{other} is not equal to layer 0's, and the checkpoint has one {key}: " in said[copy]

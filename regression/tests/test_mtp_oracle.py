"""The oracle: slices written out by hand, and that all ranks together hold every element once."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from mtp_fixtures import Scale, preset
from mtp_regression.oracle import routed_experts
from mtp_regression.parallel import GRID, Coordinates, Parallel
from mtp_regression.tensors import read_folder

TEXT = preset("qwen3.6-35b-a3b").geometry(Scale.TINY).text


def test_slices_by_hand(checkpoints: dict[str, Path]) -> None:
    """TP 2, PP 2, VPP 2, EP 4, ETP 2: the second rank of each."""
    source = read_folder(checkpoints["qwen3.6-35b-a3b"])
    held = routed_experts(
        source, TEXT, Parallel(tp=2, pp=2, vpp=2, ep=4, etp=2), Coordinates(tp=1, pp=1, ep=1, etp=1)
    )
    # Four layers over two stages of two chunks: the second stage has layers 1 and 3.
    for name, layer in (
        ("0/decoder.layers.0", "model.language_model.layers.1"),
        ("1/decoder.layers.0", "model.language_model.layers.3"),
        ("1/mtp.layers.0", "mtp.layers.0"),
    ):
        gate_up = source[f"{layer}.mlp.experts.gate_up_proj"].array()[3]
        down = source[f"{layer}.mlp.experts.down_proj"].array()[3]
        fc1 = held[f"{name}.mlp.experts.linear_fc1.weight1"].array()  # second of experts 2 and 3
        fc2 = held[f"{name}.mlp.experts.linear_fc2.weight1"].array()
        assert fc1.shape == (136, 168)
        assert np.array_equal(fc1, np.concatenate([gate_up[68:136], gate_up[204:272]]))
        assert np.array_equal(fc2, down[:, 68:136])
    assert len(held) == 3 * 2 * 2


def test_both_layouts_give_the_same_parameters(checkpoints: dict[str, Path]) -> None:
    rank = (TEXT, Parallel(ep=2), Coordinates(ep=1))
    packed = routed_experts(read_folder(checkpoints["qwen3.6-35b-a3b"]), *rank)
    per_expert = routed_experts(read_folder(checkpoints["qwen3.5-35b-a3b"]), *rank)
    assert packed.keys() == per_expert.keys()
    assert all(np.array_equal(packed[name].data, per_expert[name].data) for name in packed)


@pytest.mark.parametrize("parallel", GRID, ids=str)
def test_ranks_hold_every_element_once(parallel: Parallel, checkpoints: dict[str, Path]) -> None:
    source = read_folder(checkpoints["qwen3.6-35b-a3b"])
    places = product(range(parallel.pp), range(parallel.ep), range(parallel.etp))
    held = Counter[bytes]()
    for pp, ep, etp in places:
        for tensor in routed_experts(source, TEXT, parallel, Coordinates(pp=pp, ep=ep, etp=etp)).values():
            held.update(tensor.data.view("<u2").tolist())
    stored = Counter[bytes]()
    for name, tensor in source.items():
        if ".mlp.experts." in name:
            stored.update(tensor.data.view("<u2").tolist())
    assert held == stored

"""What the oracle expects of a rank in each kind of layer, against rows and columns written out by hand."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.ranks.parallel import Coordinates, Parallel

from .native_arrays import ONE, Q35, Q36, SECOND_OF_TWO, TEXT, expected, stored


@pytest.fixture(scope="module")
def q36(checkpoints: dict[str, Path]) -> Path:
    return checkpoints[Q36]


def test_routed_experts(q36: Path) -> None:
    """TP 2, PP 2, VPP 2, EP 4, ETP 2: the second rank of each."""
    source = stored(q36)
    held = expected(q36, Parallel(tp=2, pp=2, vpp=2, ep=4, etp=2), Coordinates(tp=1, pp=1, ep=1, etp=1))
    # Four layers over two stages of two chunks: the second stage has layers 1 and 3.
    for name, layer in (
        ("0/decoder.layers.0", TEXT + "layers.1"),
        ("1/decoder.layers.0", TEXT + "layers.3"),
        ("1/mtp.layers.0", "mtp.layers.0"),
    ):
        gate_up = source[f"{layer}.mlp.experts.gate_up_proj"][3]
        down = source[f"{layer}.mlp.experts.down_proj"][3]
        fc1 = held[f"{name}.mlp.experts.linear_fc1.weight1"]  # second of experts 2 and 3
        fc2 = held[f"{name}.mlp.experts.linear_fc2.weight1"]
        assert fc1.shape == (136, 168)
        assert np.array_equal(fc1, np.concatenate([gate_up[68:136], gate_up[204:272]]))
        assert np.array_equal(fc2, down[:, 68:136])
    assert sum(".mlp.experts." in name for name in held) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("target", "layer"), [("decoder.layers.3", TEXT + "layers.3"), ("mtp.layers.0", "mtp.layers.0")]
)
def test_full_attention(q36: Path, target: str, layer: str) -> None:
    """16 heads of 32 rows, eight of which share a key: the second of two ranks has the second eight."""
    source = stored(q36)
    held = expected(q36, *SECOND_OF_TWO)
    query, key, value = (source[f"{layer}.self_attn.{name}_proj.weight"] for name in "qkv")
    heads = range(8, 16)
    wanted = [query[64 * head : 64 * head + 32] for head in heads]
    wanted += [query[64 * head + 32 : 64 * head + 64] for head in heads]
    wanted += [key[32:64], value[32:64]]
    attention = f"0/{target}.self_attention."
    assert np.array_equal(held[attention + "linear_qkv.weight"], np.concatenate(wanted))
    output = source[layer + ".self_attn.o_proj.weight"]
    assert np.array_equal(held[attention + "linear_proj.weight"], output[:, 256:])
    for native, key_name in (
        ("q_layernorm.weight", "self_attn.q_norm.weight"),
        ("k_layernorm.weight", "self_attn.k_norm.weight"),
        ("linear_qkv.layer_norm_weight", "input_layernorm.weight"),
    ):
        assert np.array_equal(held[attention + native], source[f"{layer}.{key_name}"])


def test_more_ranks_than_key_heads_cut_a_group(make_checkpoint: MakeCheckpoint) -> None:
    """Two groups on four ranks: of a group's 576 rows, the first has 288, all queries and one head's gate.

    The second has the other gates, the key and the value. Both gather the whole for the forward pass.
    """
    folder = make_checkpoint(Q36, scale="wide")
    source = stored(folder)
    query, key, value = (source[f"{TEXT}layers.3.self_attn.{name}_proj.weight"] for name in "qkv")
    output = source[TEXT + "layers.3.self_attn.o_proj.weight"]
    for rank in range(4):
        held = expected(folder, Parallel(tp=4), Coordinates(tp=rank))
        group, second = divmod(rank, 2)
        heads = range(8 * group, 8 * (group + 1))
        gates = [query[64 * head + 32 : 64 * head + 64] for head in heads]
        rows = slice(32 * group, 32 * (group + 1))
        wanted = (
            [*gates[1:], key[rows], value[rows]]
            if second
            else [*(query[64 * head : 64 * head + 32] for head in heads), gates[0]]
        )
        attention = "0/decoder.layers.3.self_attention."
        assert np.array_equal(held[attention + "linear_qkv.weight"], np.concatenate(wanted))
        assert np.array_equal(held[attention + "linear_proj.weight"], np.split(output, 4, axis=1)[rank])


def test_linear_attention(q36: Path) -> None:
    """2 key heads of 6 and 4 value heads of 14 rows; the second of two ranks has the second half of each."""
    source = stored(q36)
    held = expected(q36, *SECOND_OF_TWO)
    linear, target = TEXT + "layers.1.linear_attn.", "0/decoder.layers.1.self_attention."
    qkv, z, b, a = (source[f"{linear}in_proj_{name}.weight"] for name in ("qkv", "z", "b", "a"))
    wanted = [qkv[6:12], qkv[18:24], qkv[52:80], z[28:], b[2:], a[2:]]
    assert np.array_equal(held[target + "in_proj.weight"], np.concatenate(wanted))
    conv = source[linear + "conv1d.weight"]
    assert np.array_equal(
        held[target + "conv1d.weight"], np.concatenate([conv[6:12], conv[18:24], conv[52:]])
    )
    for name in ("A_log", "dt_bias"):
        assert np.array_equal(held[target + name], source[linear + name][2:])
    assert np.array_equal(held[target + "out_proj.weight"], source[linear + "out_proj.weight"][:, 28:])


def test_float32_is_held_in_bf16(checkpoints: dict[str, Path]) -> None:
    """Also where it must round: to the nearest, and `w - 1` only after the subtraction."""
    source = stored(checkpoints[Q35])
    held = expected(checkpoints[Q35], *ONE)
    linear, target = TEXT + "layers.0.linear_attn.", "0/decoder.layers.0.self_attention."
    assert source[linear + "norm.weight"].dtype == np.float32
    for value, stored_value in zip(held[target + "A_log"], source[linear + "A_log"], strict=True):
        assert value == ml_dtypes.bfloat16(stored_value)
    for value, stored_value in zip(
        held[target + "out_norm.weight"], source[linear + "norm.weight"], strict=True
    ):
        assert value == ml_dtypes.bfloat16(float(stored_value) - 1.0)
    assert {str(value.dtype) for value in held.values()} == {"bfloat16"}


def test_mixture_and_its_shared_expert(q36: Path) -> None:
    """The shared expert is cut by tensor-parallel rank, router and gate are whole."""
    source = stored(q36)
    held = expected(q36, Parallel(tp=2, etp=1), Coordinates(tp=1))
    mlp, target = "mtp.layers.0.mlp.", "0/mtp.layers.0.mlp."
    gate, up, down = (source[f"{mlp}shared_expert.{name}_proj.weight"] for name in ("gate", "up", "down"))
    fc1 = held[target + "shared_experts.linear_fc1.weight"]
    assert np.array_equal(fc1, np.concatenate([gate[76:], up[76:]]))
    assert np.array_equal(held[target + "shared_experts.linear_fc2.weight"], down[:, 76:])
    assert np.array_equal(held[target + "router.weight"], source[mlp + "gate.weight"])
    assert np.array_equal(
        held[target + "shared_experts.gate_weight"], source[mlp + "shared_expert_gate.weight"]
    )
    norm = source["mtp.layers.0.post_attention_layernorm.weight"]
    assert np.array_equal(held["0/mtp.layers.0.pre_mlp_layernorm.weight"], norm)


def test_dense_unit(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint("qwen3.5-0.8b")
    source, held = stored(folder), expected(folder, *SECOND_OF_TWO)
    gate, up, down = (source[f"{TEXT}layers.0.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    target = "0/decoder.layers.0."
    assert np.array_equal(held[target + "mlp.linear_fc1.weight"], np.concatenate([gate[116:], up[116:]]))
    assert np.array_equal(held[target + "mlp.linear_fc2.weight"], down[:, 116:])
    norm = source[TEXT + "layers.0.post_attention_layernorm.weight"]
    assert np.array_equal(held[target + "mlp.linear_fc1.layer_norm_weight"], norm)
    assert target + "pre_mlp_layernorm.weight" not in held


def test_vision_tower(q36: Path) -> None:
    """2 heads of 20 rows: the second of two ranks has the second, and biases of row-parallel sums whole."""
    source, held = stored(q36), expected(q36, *SECOND_OF_TWO)
    block, target = "model.visual.blocks.1.", "0/vision_model.decoder.layers.1."
    for suffix in ("weight", "bias"):
        qkv = source[f"{block}attn.qkv.{suffix}"]
        wanted = np.concatenate([qkv[20:40], qkv[60:80], qkv[100:120]])
        assert np.array_equal(held[f"{target}self_attention.linear_qkv.{suffix}"], wanted)
        fc1 = source[f"{block}mlp.linear_fc1.{suffix}"]
        assert np.array_equal(held[f"{target}mlp.linear_fc1.{suffix}"], fc1[70:])
        for native, name in (("self_attention.linear_qkv", "norm1"), ("mlp.linear_fc1", "norm2")):
            assert np.array_equal(
                held[f"{target}{native}.layer_norm_{suffix}"], source[f"{block}{name}.{suffix}"]
            )
    for native, name, width in (
        ("self_attention.linear_proj", "attn.proj", 20),
        ("mlp.linear_fc2", "mlp.linear_fc2", 70),
    ):
        assert np.array_equal(held[f"{target}{native}.weight"], source[f"{block}{name}.weight"][:, width:])
        assert np.array_equal(held[f"{target}{native}.bias"], source[f"{block}{name}.bias"])
    merger, target = "model.visual.merger.", "0/vision_model.merger."
    assert np.array_equal(held[target + "patch_norm.bias"], source[merger + "norm.bias"])
    assert np.array_equal(held[target + "linear_fc1.bias"], source[merger + "linear_fc1.bias"][80:])
    assert np.array_equal(held[target + "linear_fc2.weight"], source[merger + "linear_fc2.weight"][:, 80:])
    for native, name in (("patch_embed.proj.weight", "patch_embed.proj.weight"), ("pos_embed.weight",) * 2):
        assert np.array_equal(held["0/vision_model." + native], source["model.visual." + name])


def test_every_mtp_layer_has_the_inputs_of_all(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(Q36, mtp_layers=2)
    source, held = stored(folder), expected(folder, *SECOND_OF_TWO)
    for layer in ("0/mtp.layers.0.", "0/mtp.layers.1."):
        assert np.array_equal(held[layer + "eh_proj.weight"], source["mtp.fc.weight"][84:])
        assert np.array_equal(held[layer + "enorm.weight"], source["mtp.pre_fc_norm_embedding.weight"])
        assert np.array_equal(held[layer + "hnorm.weight"], source["mtp.pre_fc_norm_hidden.weight"])
        assert np.array_equal(held[layer + "final_layernorm.weight"], source["mtp.norm.weight"])
    second = source["mtp.layers.1.mlp.gate.weight"]
    assert np.array_equal(held["0/mtp.layers.1.mlp.router.weight"], second)

"""The parameters of one transformer layer, of the decoder or of the MTP block, on one rank.

Names are relative to the layer. A norm before a projection is a parameter of that projection where
TransformerEngine fuses the two (`TELayerNormColumnParallelLinear` of
`megatron.core.extensions.transformer_engine`). Norms are whole on every rank and scale by 1 + w, in the
checkpoint as in Megatron-Core (`layernorm_zero_centered_gamma`); `out_norm` is the exception.

Docstrings give shapes at TP 1 and ETP 1: H is `hidden_size`, I the intermediate size of an MLP or expert, E
the number of experts. Column-parallel weights are cut along the first axis, row-parallel ones along the
second. `linear_fc1` of an MLP or expert is [2 * I, H], gate rows before up rows, column-parallel;
`linear_fc2` is [H, I], row-parallel. All values are BF16.
"""

from __future__ import annotations

import numpy as np

from mtp_checkpoint.layouts.expert_layout import PROJECTIONS
from mtp_checkpoint.layouts.keys import Place, matrix_name
from mtp_fixtures.model.geometry import LinearProjections, TextGeometry
from mtp_fixtures.model.mlp import Dense
from mtp_regression.oracle.placement import Layer, Placement
from mtp_regression.oracle.recipes import Recipe, Recipes, ShardedSource, prefixed
from mtp_regression.oracle.shards import Array, interleave_groups, split_output_gate
from mtp_regression.oracle.source import Source


def layer_parameters(layer: Layer, source: Source, placement: Placement) -> Recipes:
    """Yield the rank's parameters of one layer.

    Args:
        layer: Which layer.
        source: The checkpoint.
        placement: The rank's part of the model.

    Yields:
        Name relative to the layer, such as "mlp.router.weight", and recipe.
    """
    sharded = ShardedSource(source, placement.tensor)
    text = placement.text
    attention = _linear_attention if layer.linear else _full_attention
    yield from prefixed("self_attention.", attention(layer.source, sharded, text))
    norm = sharded.whole(layer.source + "post_attention_layernorm.weight")
    if isinstance(text.mlp, Dense):
        yield "mlp.linear_fc1.layer_norm_weight", norm
        yield from prefixed("mlp.", _gated_unit(layer.source + "mlp.", sharded))
        return
    # The router takes the normed states too, so here the norm is a module of its own.
    yield "pre_mlp_layernorm.weight", norm
    yield from prefixed("mlp.", _mixture(layer.source + "mlp.", sharded))
    yield from prefixed("mlp.experts.", _routed_experts(layer.place, source, placement))


def _full_attention(prefix: str, sharded: ShardedSource, text: TextGeometry) -> Recipes:
    """Yield attention with an output gate, and norms of queries and keys.

    With N query heads and K key/value heads of size D (`head_dim`): `linear_qkv` [2 * (N + K) * D, H],
    column-parallel; `linear_proj` [H, N * D], row-parallel; `q_layernorm` and `k_layernorm` [D], whole.

    For each of the K groups, `linear_qkv` has the query rows of its N / K heads, their gate rows, the key
    rows and the value rows (`megatron.core.transformer.attention.SelfAttention.get_query_key_value_tensors`,
    `output_gate`). Ranks have equal blocks of rows, also where a group is split between ranks.
    """
    attention, source = prefix + "self_attn.", sharded.source

    def query_key_value() -> list[Array]:
        query, key, value = (source.weight(attention + matrix_name(name)) for name in "qkv")
        query, gate = split_output_gate(query, text.num_attention_heads)
        return [interleave_groups(text.num_key_value_heads, query, gate, key, value)]

    yield "linear_qkv.layer_norm_weight", sharded.whole(prefix + "input_layernorm.weight")
    yield "linear_qkv.weight", sharded.cut(query_key_value)
    yield "q_layernorm.weight", sharded.whole(attention + "q_norm.weight")
    yield "k_layernorm.weight", sharded.whole(attention + "k_norm.weight")
    yield "linear_proj.weight", sharded.row_parallel(attention + "o_proj.weight")


def _linear_attention(prefix: str, sharded: ShardedSource, text: TextGeometry) -> Recipes:
    """Yield the linear attention of a Gated DeltaNet (GDN) layer.

    With V value heads, Q query or key rows (`linear_key_size`) and R value rows (`linear_value_size`):
    `in_proj` [2 * Q + 2 * R + 2 * V, H], `conv1d` [2 * Q + R, 1, kernel], `A_log` and `dt_bias` [V], all
    column-parallel; `out_proj` [H, R], row-parallel; `out_norm` [R / V], whole.

    The parts of `in_proj` (query, key, value, z, beta, alpha) and of `conv1d` (the first three) are each cut
    into equal blocks (`megatron.core.ssm.gated_delta_net`: `in_proj_split_names`, and the names for
    `conv1d.weight` in `sharded_state_dict`). `A_log` is BF16 even where the checkpoint stores F32.
    `out_norm` scales by 1 + w in Megatron-Core, and by w in the checkpoint.
    """
    linear, source = prefix + "linear_attn.", sharded.source

    def query_key_value(key: str) -> list[Array]:
        rows, size = source.weight(key), text.linear_key_size
        return [rows[:size], rows[size : 2 * size], rows[2 * size :]]

    def projections() -> list[Array]:
        if text.linear_projections is LinearProjections.FUSED:
            return _unfused(
                source.weight(linear + "in_proj_qkvz.weight"),
                source.weight(linear + "in_proj_ba.weight"),
                text,
            )
        z_beta_alpha = [source.weight(f"{linear}in_proj_{name}.weight") for name in "zba"]
        return query_key_value(linear + "in_proj_qkv.weight") + z_beta_alpha

    yield "in_proj.layer_norm_weight", sharded.whole(prefix + "input_layernorm.weight")
    yield "in_proj.weight", sharded.cut(projections)
    yield "conv1d.weight", sharded.cut(lambda: query_key_value(linear + "conv1d.weight"))
    yield "A_log", sharded.column_parallel(linear + "A_log")
    yield "dt_bias", sharded.column_parallel(linear + "dt_bias")
    yield "out_norm.weight", lambda: source.zero_centred(linear + "norm.weight")
    yield "out_proj.weight", sharded.row_parallel(linear + "out_proj.weight")


def _unfused(qkvz: Array, beta_alpha: Array, text: TextGeometry) -> list[Array]:
    """Sort the rows of Qwen3-Next's fused projections by what they compute.

    Each key head has its query rows, its key rows, and the value rows, then the z rows of the value heads
    that share it; beta and alpha of these heads likewise (transformers,
    `Qwen3NextGatedDeltaNet.fix_query_key_value_ordering`).

    Args:
        qkvz: [2 * Q + 2 * R, H], in the sizes of `_linear_attention`.
        beta_alpha: [2 * V, H].
        text: The language model's dimensions.

    Returns:
        Query, key [Q, H], value, z [R, H], beta, alpha [V, H].
    """
    heads, width = text.linear_num_key_heads, qkvz.shape[-1]
    key, value = text.linear_key_head_dim, text.linear_value_size // heads
    parts = np.split(qkvz.reshape(heads, -1, width), (key, 2 * key, 2 * key + value), axis=1)
    parts += np.split(beta_alpha.reshape(heads, -1, width), 2, axis=1)
    return [part.reshape(-1, width) for part in parts]


def _gated_unit(prefix: str, sharded: ShardedSource) -> Recipes:
    """Yield a gated MLP: `linear_fc1` [2 * I, H] from gate and up, `linear_fc2` [H, I] from down."""
    gate, up, down = (prefix + matrix_name(projection) for projection in PROJECTIONS)
    yield "linear_fc1.weight", sharded.column_parallel(gate, up)
    yield "linear_fc2.weight", sharded.row_parallel(down)


def _mixture(prefix: str, sharded: ShardedSource) -> Recipes:
    """Yield the router [E, H], and the shared expert with its gate [1, H].

    Router and gate are whole on every rank. The shared expert is cut as a dense MLP is, by tensor-parallel
    and not by expert-tensor-parallel rank (`megatron.core.transformer.moe.router.Router`,
    `megatron.core.transformer.moe.shared_experts.SharedExpertMLP`).
    """
    yield "router.weight", sharded.whole(prefix + "gate.weight")
    yield "shared_experts.gate_weight", sharded.whole(prefix + "shared_expert_gate.weight")
    yield from prefixed("shared_experts.", _gated_unit(prefix + "shared_expert.", sharded))


def _routed_experts(layer: Place, source: Source, placement: Placement) -> Recipes:
    """Yield the rank's routed experts, numbered from 0 on each rank and cut by expert-tensor-parallel rank.

    Names are those of `megatron.core.transformer.moe.experts.TEGroupedMLP`: `linear_fc1.weight{i}` [2 * I, H]
    and `linear_fc2.weight{i}` [H, I].
    """
    for local, number in enumerate(placement.experts):
        fc1, fc2 = _routed_expert(layer, number, ShardedSource(source, placement.expert_tensor))
        yield f"linear_fc1.weight{local}", fc1
        yield f"linear_fc2.weight{local}", fc2


def _routed_expert(layer: Place, number: int, sharded: ShardedSource) -> tuple[Recipe, Recipe]:
    """Return the recipes of `linear_fc1` and of `linear_fc2`."""
    source, share = sharded.source, sharded.share
    return (
        sharded.cut(lambda: source.gate_and_up(layer, number)),
        lambda: share.row_parallel(source.down(layer, number)),
    )

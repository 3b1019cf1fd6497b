"""The parameters of the vision tower that a rank of the first pipeline stage holds.

The tower is built of Megatron-Core's layers, with biases and LayerNorm, under names that the bridge's model
of Qwen3-VL gives (`megatron.bridge.models.qwen_vl.modelling_qwen3_vl.vision_model.Qwen3VLVisionModel`, and
`utils.Qwen3VLVisionPatchMerger` beside it). Its norms are not zero-centred, in either format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtp_checkpoint.layouts.keys import VISION_PREFIX, Place
from mtp_regression.oracle.recipes import Recipe, Recipes, ShardedSource, prefixed
from mtp_regression.oracle.shards import Array, interleave_groups

WEIGHT_AND_BIAS = ("weight", "bias")


def vision_parameters(config: Mapping[str, Any], sharded: ShardedSource) -> Recipes:
    """Yield the vision tower; names are relative to it.

    Args:
        config: `vision_config` of `config.json`: `depth` and `num_heads` are read.
        sharded: The checkpoint, and the rank's tensor-parallel share.
    """
    yield "pos_embed.weight", sharded.whole(VISION_PREFIX + "pos_embed.weight")
    yield from _whole("patch_embed.proj.", VISION_PREFIX + "patch_embed.proj.", sharded)
    for block in range(config["depth"]):
        layer = _block(Place(VISION_PREFIX, block).key, config["num_heads"], sharded)
        yield from prefixed(f"decoder.layers.{block}.", layer)
    merger = VISION_PREFIX + "merger."
    yield from _whole("merger.patch_norm.", merger + "norm.", sharded)
    yield from prefixed("merger.", _perceptron(merger, sharded))


def _block(prefix: str, heads: int, sharded: ShardedSource) -> Recipes:
    """Yield one layer; every head has its own key and value, and no output gate."""
    yield from _whole("self_attention.linear_qkv.layer_norm_", prefix + "norm1.", sharded)
    for suffix in WEIGHT_AND_BIAS:
        yield f"self_attention.linear_qkv.{suffix}", _heads(f"{prefix}attn.qkv.{suffix}", heads, sharded)
    yield from prefixed("self_attention.linear_proj.", _row_parallel(prefix + "attn.proj.", sharded))
    yield from _whole("mlp.linear_fc1.layer_norm_", prefix + "norm2.", sharded)
    yield from prefixed("mlp.", _perceptron(prefix + "mlp.", sharded))


def _heads(key: str, heads: int, sharded: ShardedSource) -> Recipe:
    """Make the recipe of queries, keys and values: head by head, and not one above the other as stored."""

    def interleaved() -> list[Array]:
        stacked = sharded.source.weight(key)
        size = len(stacked) // 3
        return [interleave_groups(heads, stacked[:size], stacked[size : 2 * size], stacked[2 * size :])]

    return sharded.cut(interleaved)


def _perceptron(prefix: str, sharded: ShardedSource) -> Recipes:
    for suffix in WEIGHT_AND_BIAS:
        yield f"linear_fc1.{suffix}", sharded.column_parallel(f"{prefix}linear_fc1.{suffix}")
    yield from prefixed("linear_fc2.", _row_parallel(prefix + "linear_fc2.", sharded))


def _row_parallel(prefix: str, sharded: ShardedSource) -> Recipes:
    yield "weight", sharded.row_parallel(prefix + "weight")
    yield "bias", sharded.whole(prefix + "bias")  # added once, after the ranks' sums


def _whole(target: str, prefix: str, sharded: ShardedSource) -> Recipes:
    for suffix in WEIGHT_AND_BIAS:
        yield target + suffix, sharded.whole(prefix + suffix)

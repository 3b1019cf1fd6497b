"""The parameters of the vision tower on a rank of the first pipeline stage.

The tower consists of Megatron-Core's layers, with biases and LayerNorm. The names of its modules are those of
Megatron-Bridge's Qwen3-VL model (`megatron.bridge.models.qwen_vl.modelling_qwen3_vl.vision_model.
Qwen3VLVisionModel`, and `utils.Qwen3VLVisionPatchMerger` in the same package). Its norms scale by w, not by
1 + w, in the checkpoint and in the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtp_checkpoint.layouts.keys import VISION_PREFIX, Place
from mtp_regression.oracle.recipes import Recipe, Recipes, ShardedSource, prefixed
from mtp_regression.oracle.shards import Array, interleave_groups

MEGATRON_BRIDGE, HUGGINGFACE = "megatron-bridge", "huggingface"
"""Whose vision tower a model has."""
VISION_TOWER = "vision_model."
"""What the names of its parameters begin with."""
WEIGHT_AND_BIAS = ("weight", "bias")


def vision_parameters(config: Mapping[str, Any], sharded: ShardedSource) -> Recipes:
    """Yield every parameter of the vision tower, in BF16.

    With the tower's hidden size H and intermediate size I, and M = `spatial_merge_size ** 2 * H`, at TP 1:

    - `pos_embed` [positions, H] and `patch_embed.proj` [H, channels, time, height, width], whole
    - `linear_qkv` [3 * H, H], `mlp.linear_fc1` [I, H] and `merger.linear_fc1` [M, M], column-parallel
    - `linear_proj` [H, H], `mlp.linear_fc2` [H, I] and `merger.linear_fc2` [out_hidden_size, M], row-parallel

    Biases are [outputs]: cut with the rows of a column-parallel weight, else whole. Norms are [H], whole.

    Args:
        config: `vision_config` of `config.json`; uses `depth` and `num_heads`.
        sharded: The checkpoint, and the rank's tensor-parallel shard.

    Yields:
        Name relative to the tower, such as "decoder.layers.0.mlp.linear_fc1.bias", and recipe.

    Raises:
        KeyError: `config` lacks one of the two.
    """
    yield "pos_embed.weight", sharded.whole(VISION_PREFIX + "pos_embed.weight")
    yield from _whole("patch_embed.proj.", VISION_PREFIX + "patch_embed.proj.", sharded)
    for block in range(config["depth"]):
        layer = _block(Place(VISION_PREFIX, block).key, config["num_heads"], sharded)
        yield from prefixed(f"decoder.layers.{block}.", layer)
    merger = VISION_PREFIX + "merger."
    yield from _whole("merger.patch_norm.", merger + "norm.", sharded)
    yield from prefixed("merger.", _perceptron(merger, sharded))


def huggingface_parameters(sharded: ShardedSource) -> Recipes:
    """Yield every parameter of transformers' own vision tower, in BF16: the checkpoint's, each whole.

    Yields:
        Name relative to the tower, such as "blocks.0.attn.qkv.weight", and recipe.
    """
    for key in sharded.source.keys_below(VISION_PREFIX):
        yield key.removeprefix(VISION_PREFIX), sharded.whole(key)


def _block(prefix: str, heads: int, sharded: ShardedSource) -> Recipes:
    """Yield one layer; each head has its own key and value, and there is no output gate."""
    yield from _whole("self_attention.linear_qkv.layer_norm_", prefix + "norm1.", sharded)
    for suffix in WEIGHT_AND_BIAS:
        yield f"self_attention.linear_qkv.{suffix}", _heads(f"{prefix}attn.qkv.{suffix}", heads, sharded)
    yield from prefixed("self_attention.linear_proj.", _row_parallel(prefix + "attn.proj.", sharded))
    yield from _whole("mlp.linear_fc1.layer_norm_", prefix + "norm2.", sharded)
    yield from prefixed("mlp.", _perceptron(prefix + "mlp.", sharded))


def _heads(key: str, heads: int, sharded: ShardedSource) -> Recipe:
    """Reorder [3 * H, ...] from all queries, all keys, all values to query, key and value of each head."""

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

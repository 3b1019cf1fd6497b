"""Every parameter of one rank of the Megatron-Core model, and how its value follows from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtp_checkpoint.layouts.keys import EMBEDDING, MTP_PREFIX, TEXT_ONLY_PREFIX, TEXT_PREFIX
from mtp_fixtures.model.geometry import TextGeometry
from mtp_fixtures.model.schema import LM_HEAD
from mtp_regression.comparison.tensors import Tensors
from mtp_regression.oracle.layers import layer_parameters
from mtp_regression.oracle.placement import Placement
from mtp_regression.oracle.recipes import Recipe, Recipes, ShardedSource, prefixed
from mtp_regression.oracle.shards import pad_vocabulary
from mtp_regression.oracle.source import Source
from mtp_regression.oracle.vision import (
    HUGGINGFACE,
    MEGATRON_BRIDGE,
    VISION_TOWER,
    huggingface_parameters,
    vision_parameters,
)
from mtp_regression.ranks.parallel import Coordinates, Parallel


def native_parameters(
    tensors: Tensors,
    config: Mapping[str, Any],
    parallel: Parallel,
    rank: Coordinates,
    *,
    vocab_divisor: int = 1,
    without_mtp: bool = False,
    vision: str | None = MEGATRON_BRIDGE,
) -> dict[str, Recipe]:
    """Give every parameter that one rank has after it has loaded a checkpoint.

    Args:
        tensors: The checkpoint's tensors by key, in Hugging Face's shapes and any expert layout: BF16 or
            F32, or FP8 with its scales.
        config: Its `config.json`; an architecture "...ForCausalLM" is a text-only model.
        parallel: The parallel layout.
        rank: The rank's place in it.
        vocab_divisor: Megatron's `make_vocab_size_divisible_by`, if the vocabulary is padded; 1 if not.
        without_mtp: Whether MTP was switched off by `mtp_num_layers=None`; `config` then declares no layer.
        vision: Whose vision tower the model has: Megatron-Bridge's, Hugging Face's, or None: it is left out.

    Returns:
        Recipe of each parameter, by name: "{chunk}/" and Megatron-Core's name, such as
        "0/decoder.layers.3.self_attention.linear_qkv.weight". Model chunks, layers and experts are numbered
        from 0 on each rank. Names leave out `module.`, `language_model.` and the `.mtp_model_layer` of MTP
        layers, and routed experts are named as in `TEGroupedMLP` ("mlp.experts.linear_fc1.weight0").
        A recipe returns the rank's shard in BF16, in the shape that Megatron-Core gives the parameter.

    Raises:
        KeyError: `config.json` lacks a dimension, or `architectures`.
        ValueError: The decoder's layers cannot be cut as the parallel layout says.
    """
    text_only = config["architectures"][0].endswith("ForCausalLM")
    text = TextGeometry.from_config(config if text_only else config["text_config"])
    prefix = TEXT_ONLY_PREFIX if text_only else TEXT_PREFIX
    source, placement = Source(tensors, config), Placement(text, parallel, rank, without_mtp)
    sharded = ShardedSource(source, placement.tensor)
    tied = bool(config.get("tie_word_embeddings", False))
    held = dict(_ends(prefix, sharded, placement, tied=tied, vocab_divisor=vocab_divisor))
    for layer in placement.decoder_layers(prefix):
        held |= prefixed(layer.target, layer_parameters(layer, source, placement))
    for layer in placement.mtp_layers():
        held |= prefixed(layer.target, _mtp_inputs_and_norm(sharded))
        held |= prefixed(layer.target, layer_parameters(layer, source, placement))
    if placement.first and not text_only and vision is not None:
        tower = (
            huggingface_parameters(sharded)
            if vision == HUGGINGFACE
            else vision_parameters(config["vision_config"], sharded)
        )
        held |= prefixed(placement.first + VISION_TOWER, tower)
    return held


def _ends(
    prefix: str, sharded: ShardedSource, placement: Placement, *, tied: bool, vocab_divisor: int
) -> Recipes:
    """Yield embedding and output layer, both [padded vocabulary, H], and the final norm [H].

    Vocabulary rows are cut into equal blocks (`megatron.core.tensor_parallel.layers.
    VocabParallelEmbedding`). The embedding is in the first stage of the pipeline, and in that of the MTP
    layers. The output layer is in the last; if it is tied to the embedding, it is a parameter of its own only
    where the last stage is not the first (`megatron.core.models.gpt.gpt_model.GPTModel`: `mtp_process`,
    `skip_weight_param_allocation`).
    """

    def vocabulary(key: str) -> Recipe:
        ranks = placement.parallel.tp
        return sharded.cut(
            lambda: [pad_vocabulary(sharded.source.weight(key), divisor=vocab_divisor, ranks=ranks)]
        )

    embedding = prefix + EMBEDDING
    for chunk in {placement.first, placement.mtp} - {None}:
        yield f"{chunk}embedding.word_embeddings.weight", vocabulary(embedding)
    if placement.final_norm:
        yield f"{placement.final_norm}decoder.final_layernorm.weight", sharded.whole(prefix + "norm.weight")
    if placement.last and not (tied and placement.first == placement.last):
        yield f"{placement.last}output_layer.weight", vocabulary(embedding if tied else LM_HEAD.key)


def _mtp_inputs_and_norm(sharded: ShardedSource) -> Recipes:
    """Yield what a checkpoint has once for all MTP layers, and Megatron-Core in each layer.

    `eh_proj` is [H, 2 * H], column-parallel; the norms are [H]. Columns of `eh_proj` are in the order of
    `mtp.fc`: first those of the normed embedding, then those of the normed hidden states
    (`megatron.core.transformer.multi_token_prediction.MultiTokenPredictionLayer._concat_embeddings`).
    """
    yield "eh_proj.weight", sharded.column_parallel(MTP_PREFIX + "fc.weight")
    yield "enorm.weight", sharded.whole(MTP_PREFIX + "pre_fc_norm_embedding.weight")
    yield "hnorm.weight", sharded.whole(MTP_PREFIX + "pre_fc_norm_hidden.weight")
    yield "final_layernorm.weight", sharded.whole(MTP_PREFIX + "norm.weight")

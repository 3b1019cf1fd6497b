"""The table of conversions: one row for each parameter that Megatron-Core's model has, section by section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from mtp_checkpoint.layouts.expert_layout import PROJECTIONS
from mtp_checkpoint.layouts.keys import EMBEDDING, EXPERTS, HEAD, expert_name, matrix_name
from mtp_regression.in_memory.conversions import (
    Array,
    Conversion,
    Cut,
    convolution_parts,
    fused_by_key_head,
    gated_heads,
    in_turn,
    projection_parts,
    two_halves,
    vision_heads,
)


class Section(StrEnum):
    """The parts of a model that have the same parameters; names and keys of a row are below the part's.

    Attributes:
        EMBEDDING: The embedding, whose key is below the language model's.
        FINAL_NORM: The decoder's final norm, likewise.
        OUTPUT: The output layer, whose key is below nothing.
        FULL: Every layer with full attention, also of the MTP block.
        LINEAR: Every GDN layer.
        FUSED_LINEAR: Every GDN layer of Qwen3-Next, which stores projections together.
        DENSE: Every layer of a dense model.
        MIXTURE: Every layer of a mixture of experts.
        EXPERT: Every routed expert, `{expert}` in names and keys, however experts are stored.
        MTP: Every MTP layer: what the checkpoint has once for all of them, below `mtp.`.
        VISION: The vision tower.
        VISION_LAYER: Every layer of it.
    """

    EMBEDDING = "embedding"
    FINAL_NORM = "final norm"
    OUTPUT = "output layer"
    FULL = "full attention"
    LINEAR = "linear attention"
    FUSED_LINEAR = "fused linear attention"
    DENSE = "dense MLP"
    MIXTURE = "mixture of experts"
    EXPERT = "routed expert"
    MTP = "MTP layer"
    VISION = "vision tower"
    VISION_LAYER = "vision layer"


Rows = tuple[Conversion, ...]
Table = Mapping[Section, Rows]


def _whole(name: str, key: str) -> Conversion:
    return Conversion(name, (key,))


def _rows_cut(name: str, *keys: str) -> Conversion:
    return Conversion(name, keys, Cut.COLUMN_PARALLEL)


def _columns_cut(name: str, key: str) -> Conversion:
    return Conversion(name, (key,), Cut.ROW_PARALLEL)


def _gated(target: str, keys: list[str], number: str = "") -> Rows:
    """Return the rows of a gated MLP: gate above up, and down."""
    *gate_up, down = keys
    return (
        Conversion(
            f"{target}linear_fc1.weight{number}", tuple(gate_up), Cut.COLUMN_PARALLEL, parts=two_halves
        ),
        _columns_cut(f"{target}linear_fc2.weight{number}", down),
    )


def _matrices(prefix: str) -> list[str]:
    return [prefix + matrix_name(projection) for projection in PROJECTIONS]


def _linear_attention(projections: tuple[str, ...], order: Callable[..., Array]) -> Rows:
    """Return the rows of a GDN layer, whose projections are stored in one of two ways."""
    source, target = "linear_attn.", "self_attention."
    keys = tuple(f"{source}in_proj_{name}.weight" for name in projections)
    convolution = (f"{source}conv1d.weight",)
    return (
        _whole(f"{target}in_proj.layer_norm_weight", "input_layernorm.weight"),
        Conversion(f"{target}in_proj.weight", keys, Cut.COLUMN_PARALLEL, order, projection_parts),
        Conversion(f"{target}conv1d.weight", convolution, Cut.COLUMN_PARALLEL, parts=convolution_parts),
        _rows_cut(f"{target}A_log", f"{source}A_log"),
        _rows_cut(f"{target}dt_bias", f"{source}dt_bias"),
        # Megatron-Core's norm scales by 1 + w, the checkpoint's by w.
        Conversion(f"{target}out_norm.weight", (f"{source}norm.weight",), offset=1),
        _columns_cut(f"{target}out_proj.weight", f"{source}out_proj.weight"),
    )


def _biased(name: str, key: str, cut: Cut = Cut.WHOLE, order: Callable[..., Array] = in_turn) -> Rows:
    """Return weight and bias. The bias of a row-parallel weight is whole: it is added to the ranks' sum."""
    bias = Cut.WHOLE if cut is Cut.ROW_PARALLEL else cut
    separator = "_" if name.endswith("layer_norm") else "."
    return (
        Conversion(f"{name}{separator}weight", (f"{key}.weight",), cut, order),
        Conversion(f"{name}{separator}bias", (f"{key}.bias",), bias, order),
    )


_QKV = tuple(f"self_attn.{matrix_name(name)}" for name in "qkv")
_ROUTED = [EXPERTS + expert_name(projection, "{expert}") for projection in PROJECTIONS]

TABLE: Table = MappingProxyType(
    {
        Section.EMBEDDING: (_rows_cut("embedding.word_embeddings.weight", EMBEDDING),),
        Section.FINAL_NORM: (_whole("decoder.final_layernorm.weight", "norm.weight"),),
        Section.OUTPUT: (_rows_cut("output_layer.weight", HEAD),),
        Section.FULL: (
            _whole("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight"),
            Conversion("self_attention.linear_qkv.weight", _QKV, Cut.COLUMN_PARALLEL, gated_heads),
            _whole("self_attention.q_layernorm.weight", "self_attn.q_norm.weight"),
            _whole("self_attention.k_layernorm.weight", "self_attn.k_norm.weight"),
            _columns_cut("self_attention.linear_proj.weight", "self_attn.o_proj.weight"),
        ),
        Section.LINEAR: _linear_attention(("qkv", "z", "b", "a"), in_turn),
        Section.FUSED_LINEAR: _linear_attention(("qkvz", "ba"), fused_by_key_head),
        Section.DENSE: (
            _whole("mlp.linear_fc1.layer_norm_weight", "post_attention_layernorm.weight"),
            *_gated("mlp.", _matrices("mlp.")),
        ),
        Section.MIXTURE: (
            # The router takes the normed states too, so here the norm is a module of its own.
            _whole("pre_mlp_layernorm.weight", "post_attention_layernorm.weight"),
            _whole("mlp.router.weight", "mlp.gate.weight"),
            _whole("mlp.shared_experts.gate_weight", "mlp.shared_expert_gate.weight"),
            *_gated("mlp.shared_experts.", _matrices("mlp.shared_expert.")),
        ),
        Section.EXPERT: _gated("mlp.experts.", _ROUTED, "{expert}"),
        Section.MTP: (
            _rows_cut("eh_proj.weight", "fc.weight"),
            _whole("enorm.weight", "pre_fc_norm_embedding.weight"),
            _whole("hnorm.weight", "pre_fc_norm_hidden.weight"),
            _whole("final_layernorm.weight", "norm.weight"),
        ),
        Section.VISION: (
            _whole("pos_embed.weight", "pos_embed.weight"),
            *_biased("patch_embed.proj", "patch_embed.proj"),
            *_biased("merger.patch_norm", "merger.norm"),
            *_biased("merger.linear_fc1", "merger.linear_fc1", Cut.COLUMN_PARALLEL),
            *_biased("merger.linear_fc2", "merger.linear_fc2", Cut.ROW_PARALLEL),
        ),
        Section.VISION_LAYER: (
            *_biased("self_attention.linear_qkv.layer_norm", "norm1"),
            *_biased("self_attention.linear_qkv", "attn.qkv", Cut.COLUMN_PARALLEL, vision_heads),
            *_biased("self_attention.linear_proj", "attn.proj", Cut.ROW_PARALLEL),
            *_biased("mlp.linear_fc1.layer_norm", "norm2"),
            *_biased("mlp.linear_fc1", "mlp.linear_fc1", Cut.COLUMN_PARALLEL),
            *_biased("mlp.linear_fc2", "mlp.linear_fc2", Cut.ROW_PARALLEL),
        ),
    }
)
"""The rows of every section. A bridge with another idea of one conversion has a table with another row."""

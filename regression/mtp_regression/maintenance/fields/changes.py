"""Other values for the fields of `config.json`: of every field of the published ones, and of some more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mtp_checkpoint.layouts.attention import FULL_ATTENTION, LINEAR_ATTENTION
from mtp_fixtures import CheckpointSpec, ExpertLayout, Geometry, Scale, TextGeometry, VisionGeometry, preset
from mtp_fixtures.companions.changes import changed

Changes = tuple[str, ...]
"""Changes made together, as `mtp_fixtures.companions.changes.changed` takes them."""

_ROPE = "rope_parameters."
_WIDE_HEADS = ("head_dim=64", _ROPE + "mrope_section=[3, 3, 2]")
"""A rotary dimension of 16, in which other sections are other frequencies."""
_YARN = (_ROPE + "rope_type=yarn", _ROPE + "factor=4", _ROPE + "original_max_position_embeddings=32")
_LLAMA3 = (
    *(_ROPE + "rope_type=llama3", _ROPE + "factor=8", _ROPE + "low_freq_factor=1"),
    *(_ROPE + "high_freq_factor=4", _ROPE + "original_max_position_embeddings=32"),
)
_ODD = (LINEAR_ATTENTION, FULL_ATTENTION, FULL_ATTENTION, LINEAR_ATTENTION)
_LEGACY = 'rope_scaling={"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": true}'

TOP: Mapping[str, tuple[Changes, ...]] = {
    "architectures": (('architectures=["Qwen3_5Model"]',),),
    "image_token_id": (("image_token_id=370",),),
    "language_model_only": (("language_model_only=true",),),
    "model_type": (("model_type=qwen3_next",),),
    "tie_word_embeddings": (("tie_word_embeddings=true",),),
    "transformers_version": (("transformers_version=9.9.9",),),
    "video_token_id": (("video_token_id=371",),),
    "vision_end_token_id": (("vision_end_token_id=372",),),
    "vision_start_token_id": (("vision_start_token_id=369",),),
}
"""Of the fields beside `text_config` and `vision_config`, by the field."""

TEXT: Mapping[str, tuple[Changes, ...]] = {
    "attention_bias": (("attention_bias=true",),),
    "attention_dropout": (("attention_dropout=0.5",),),
    "attn_output_gate": (("attn_output_gate=false",),),
    "bos_token_id": (("bos_token_id=1",),),
    "dtype": (("dtype=float32",),),
    "eos_token_id": (("eos_token_id=1",),),
    "full_attention_interval": (
        ("full_attention_interval=2",),
        ("full_attention_interval=2", "layer_types="),
    ),
    "head_dim": (_WIDE_HEADS,),
    "hidden_act": (("hidden_act=gelu",),),
    "hidden_size": (("hidden_size=192",),),
    "initializer_range": (("initializer_range=0.5",),),
    "intermediate_size": (("intermediate_size=320",),),
    "layer_types": (
        (f"layer_types={json.dumps(_ODD)}",),
        ("layer_types=",),
    ),
    "linear_conv_kernel_dim": (("linear_conv_kernel_dim=3",),),
    "linear_key_head_dim": (("linear_key_head_dim=10",),),
    "linear_num_key_heads": (("linear_num_key_heads=1",),),
    "linear_num_value_heads": (("linear_num_value_heads=8",),),
    "linear_value_head_dim": (("linear_value_head_dim=18",),),
    "mamba_ssm_dtype": (("mamba_ssm_dtype=bfloat16",),),
    "max_position_embeddings": (("max_position_embeddings=40",),),
    "mlp_only_layers": (("mlp_only_layers=[0]",),),
    "model_type": (("model_type=qwen3_next",),),
    "moe_intermediate_size": (("moe_intermediate_size=72",),),
    "mtp_num_hidden_layers": (("mtp_num_hidden_layers=2",),),
    "mtp_use_dedicated_embeddings": (("mtp_use_dedicated_embeddings=true",),),
    "num_attention_heads": (("num_attention_heads=4",),),
    "num_experts": (("num_experts=12",),),
    "num_experts_per_tok": (("num_experts_per_tok=3",),),
    "num_hidden_layers": (
        ("num_hidden_layers=8", "layer_types="),
        ("num_hidden_layers=2", f"layer_types={json.dumps([LINEAR_ATTENTION, FULL_ATTENTION])}"),
    ),
    "num_key_value_heads": (("num_key_value_heads=4",),),
    "output_gate_type": (("output_gate_type=sigmoid",),),
    "output_router_logits": (("output_router_logits=true",),),
    "pad_token_id": (("pad_token_id=1",),),
    "partial_rotary_factor": (("partial_rotary_factor=0.5",),),
    "rms_norm_eps": (("rms_norm_eps=0.001",),),
    "rope_parameters.mrope_interleaved": ((*_WIDE_HEADS, _ROPE + "mrope_interleaved=false"),),
    "rope_parameters.mrope_section": ((*_WIDE_HEADS, _ROPE + "mrope_section=[2, 2, 4]"),),
    "rope_parameters.partial_rotary_factor": (
        (_ROPE + "partial_rotary_factor=0.5", _ROPE + "mrope_section=[3, 3, 2]"),
        (_ROPE + "partial_rotary_factor=1.0", _ROPE + "mrope_section=[6, 5, 5]"),
    ),
    "rope_parameters.rope_theta": ((_ROPE + "rope_theta=10000",),),
    "rope_parameters.rope_type": (
        _YARN,
        (*_YARN, _ROPE + "attention_factor=1.5"),
        (_ROPE + "rope_type=linear", _ROPE + "factor=4"),
        _LLAMA3,
        (_ROPE + "rope_type=dynamic", _ROPE + "factor=4", "max_position_embeddings=40"),
        (_ROPE + "rope_type=proportional",),
    ),
    "router_aux_loss_coef": (("router_aux_loss_coef=0.5",),),
    "shared_expert_intermediate_size": (("shared_expert_intermediate_size=88",),),
    "tie_word_embeddings": (("tie_word_embeddings=true",),),
    "use_cache": (("use_cache=false",),),
    "vocab_size": (("vocab_size=768",),),
}
"""Of the language model's fields."""

UNPUBLISHED: Mapping[str, tuple[Changes, ...]] = {
    "norm_topk_prob": (("norm_topk_prob=false",),),
    "rope_scaling": ((_LEGACY, "rope_theta=10000", "rope_parameters="),),
    "sliding_window": (("sliding_window=16",),),
}
"""Of fields of the language model that no published configuration has, and other models' have."""

VISION: Mapping[str, tuple[Changes, ...]] = {
    "deepstack_visual_indexes": (("deepstack_visual_indexes=[0]",),),
    "depth": (("depth=3",),),
    "hidden_act": (("hidden_act=relu",),),
    "hidden_size": (("hidden_size=48",),),
    "in_channels": (("in_channels=1",),),
    "initializer_range": (("initializer_range=0.5",),),
    "intermediate_size": (("intermediate_size=112",),),
    "model_type": (("model_type=qwen3_vl",),),
    "num_heads": (("num_heads=5",),),
    "num_position_embeddings": (("num_position_embeddings=64",),),
    "out_hidden_size": (("out_hidden_size=96",),),
    "patch_size": (("patch_size=8",),),
    "spatial_merge_size": (("spatial_merge_size=1",),),
    "temporal_patch_size": (("temporal_patch_size=1",),),
}
"""Of the vision tower's fields."""

MODELS: Mapping[str, CheckpointSpec] = {
    "MoE": CheckpointSpec(preset("qwen3.6-35b-a3b"), mtp_experts=ExpertLayout.PER_EXPERT),
    "dense": CheckpointSpec(preset("qwen3.6-27b")),
    "text-only MoE": CheckpointSpec(
        preset("qwen3.6-35b-a3b"), mtp_experts=ExpertLayout.PER_EXPERT, text_only=True
    ),
}
"""The models, by name; one MTP layout for all, which every release loads."""
WHOLE = "MoE"
"""The model of which all fields are changed; of the others those of the language model."""


_Part = tuple[str, dict[str, Any], Mapping[str, tuple[Changes, ...]]]


@dataclass(frozen=True)
class Row:
    """One change of one model.

    Attributes:
        model: A key of `MODELS`.
        field: The field, with the names of the objects that it is in; "" for the model as it is.
        changes: What is changed.
    """

    model: str
    field: str = ""
    changes: Changes = ()

    @property
    def name(self) -> str:
        """What identifies it."""
        return f"{self.model}: {', '.join(self.changes) or 'as published'}"

    @property
    def names(self) -> tuple[str, ...]:
        """The changed fields' names, without those of the objects that they are in."""
        return tuple(change.partition("=")[0].rpartition(".")[2] for change in self.changes)

    def continues(self, other: Row) -> bool:
        """Tell whether this is the same model with more changes."""
        first = self.changes[: len(other.changes)]
        return self.model == other.model and len(self.changes) > len(first) and first == other.changes

    def spec(self) -> CheckpointSpec:
        """Return the checkpoint, whose tensors have the shapes that the changed config asks for.

        Raises:
            GeometryError: The architecture does not allow the dimensions.
        """
        base = MODELS[self.model]
        config = changed(published(self.model), self.changes)
        # Of a scale at which dimensions may be equal: what is compared are logits.
        return replace(
            base, scale=Scale.SQUARE, dimensions=_geometry(base, config), config_changes=self.changes
        )


def published(model: str) -> dict[str, Any]:
    """Return the fields of a model's `config.json`."""
    fields_of: dict[str, Any] = json.loads(MODELS[model].plan().texts["config.json"])
    return fields_of


def rows() -> Iterator[Row]:
    """Yield every row: each model as it is, and with every change of a field that it has."""
    for model, spec in MODELS.items():
        yield Row(model)
        config = published(model)
        prefix = "" if spec.text_only else "text_config."
        parts: list[_Part] = [(prefix, config.get("text_config", config), {**TEXT, **UNPUBLISHED})]
        if model == WHOLE:
            parts = [("", config, TOP), *parts, ("vision_config.", config["vision_config"], VISION)]
        for before, part, changes in parts:
            for field, every in changes.items():
                if field.partition(".")[0] in part or field in UNPUBLISHED:
                    for change in every:
                        yield Row(model, before + field, tuple(before + each for each in change))


def _geometry(base: CheckpointSpec, config: dict[str, Any]) -> Geometry:
    text = config.get("text_config", config)
    rope = {
        "mrope_section": base.geometry.text.mrope_section,
        "partial_rotary_factor": base.geometry.text.partial_rotary_factor,
        **text.get("rope_parameters", {}),
    }
    vision = config.get("vision_config")
    return Geometry(
        text=TextGeometry.from_config(text | rope),  # which stands where the two are in conflict
        vision=vision and VisionGeometry(**{one.name: vision[one.name] for one in fields(VisionGeometry)}),
    )

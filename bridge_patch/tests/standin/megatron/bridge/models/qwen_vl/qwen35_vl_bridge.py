"""Stands in for ``megatron.bridge.models.qwen_vl.qwen35_vl_bridge``, with a few of its mappings."""

from importlib.metadata import version
from typing import Any

from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry
from megatron.bridge.models.conversion.model_bridge import MegatronModelBridge
from megatron.bridge.models.conversion.param_mapping import (
    AutoMapping,
    FusedExpertMapping,
    FusedGatedExpertMapping,
    GatedMLPMapping,
)

_DECODER = "language_model.decoder.layers.*.mlp.experts."
_MTP = "language_model.mtp.layers.*.mtp_model_layer.mlp."
_MTP_0 = "language_model.mtp.layers.0."
_KEYS = "model.language_model.layers.*.mlp.experts."


class Qwen3VLModel:
    """What the bridges are registered for."""


def _decoder_experts(form: str) -> list[Any]:
    fc1, fc2 = (_DECODER + form.format(name) for name in ("linear_fc1", "linear_fc2"))
    return [
        FusedGatedExpertMapping(fc1, _KEYS + "gate_up_proj"),
        FusedExpertMapping(fc2, _KEYS + "down_proj", transpose_on_export=True),
    ]


@MegatronModelBridge.register_bridge(
    source="Qwen3_5MoeForConditionalGeneration", target=Qwen3VLModel, model_type="qwen3_5_moe"
)
class Qwen35VLMoEBridge(MegatronModelBridge):
    """The mixture-of-experts bridge."""

    def provider_bridge(self, hf_pretrained: Any) -> Any:
        """Return the config."""
        return hf_pretrained.config

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings: decoder experts packed, MTP experts one by one."""
        sequential = "local_experts.*.{}.weight"
        return MegatronMappingRegistry(
            AutoMapping("language_model.output_layer.weight", "lm_head.weight"),
            *_decoder_experts("{}.weight*"),
            *(_decoder_experts(sequential) if version("megatron-bridge").startswith("0.6.") else ()),
            GatedMLPMapping(
                _MTP + "experts.linear_fc1.weight*",
                gate="mtp.layers.*.mlp.experts.*.gate_proj.weight",
                up="mtp.layers.*.mlp.experts.*.up_proj.weight",
            ),
            AutoMapping(_MTP + "experts.linear_fc2.weight*", "mtp.layers.*.mlp.experts.*.down_proj.weight"),
            AutoMapping(
                _MTP + "shared_experts.linear_fc2.weight", "mtp.layers.*.mlp.shared_expert.down_proj.weight"
            ),
            AutoMapping(_MTP_0 + "eh_proj.weight", "mtp.fc.weight"),
            AutoMapping(_MTP_0 + "mtp_model_layer.mlp.router.weight", "mtp.layers.0.mlp.gate.weight"),
        )


@MegatronModelBridge.register_bridge(
    source="Qwen3_5ForConditionalGeneration", target=Qwen3VLModel, model_type="qwen3_5"
)
class Qwen35VLBridge(MegatronModelBridge):
    """The dense bridge."""

    def provider_bridge(self, hf_pretrained: Any) -> Any:
        """Return the config."""
        return hf_pretrained.config

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        return MegatronMappingRegistry(
            AutoMapping("language_model.output_layer.weight", "lm_head.weight"),
            GatedMLPMapping(
                _MTP_0 + "mtp_model_layer.mlp.linear_fc1.weight",
                gate="mtp.layers.0.mlp.gate_proj.weight",
                up="mtp.layers.0.mlp.up_proj.weight",
            ),
        )

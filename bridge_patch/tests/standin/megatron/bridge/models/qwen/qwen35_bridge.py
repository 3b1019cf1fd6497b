"""Stands in for ``megatron.bridge.models.qwen.qwen35_bridge``, which 0.4.x does not have."""

from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry
from megatron.bridge.models.conversion.model_bridge import MegatronModelBridge
from megatron.bridge.models.conversion.param_mapping import AutoMapping
from megatron.core.models.gpt.gpt_model import GPTModel


@MegatronModelBridge.register_bridge(
    source="Qwen3_5MoeForCausalLM", target=GPTModel, model_type="qwen3_5_moe_text"
)
class Qwen35MoEBridge(MegatronModelBridge):
    """The mixture-of-experts bridge of text-only models."""

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        return MegatronMappingRegistry(
            AutoMapping("output_layer.weight", "lm_head.weight"),
            AutoMapping("mtp.layers.0.eh_proj.weight", "mtp.fc.weight"),
        )


@MegatronModelBridge.register_bridge(source="Qwen3_5ForCausalLM", target=GPTModel, model_type="qwen3_5_text")
class Qwen35Bridge(MegatronModelBridge):
    """The dense bridge of text-only models."""

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        return MegatronMappingRegistry(AutoMapping("output_layer.weight", "lm_head.weight"))

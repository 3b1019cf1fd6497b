"""What the fixes use of Megatron-Bridge: names and signatures, of a real release or of its stand-in."""

import importlib
import inspect
import json
import sys
from typing import Any

MODELS = "megatron.bridge.models."
TRAINING = "megatron.bridge.training."
MODEL_BRIDGE = MODELS + "conversion.model_bridge:"
MAPPINGS = MODELS + "conversion.param_mapping:"
BASE = MODEL_BRIDGE + "MegatronModelBridge."
VISION_LANGUAGE = MODELS + "qwen_vl.qwen35_vl_bridge:"
PROVIDERS = MODELS + "qwen_vl.qwen35_vl_provider:"
MODEL = MODELS + "qwen_vl.modelling_qwen3_vl."
TEXT = MODELS + "qwen.qwen35_bridge:"
GPT = "megatron.core.models.gpt."

USED = (
    *(
        BASE + name
        for name in (
            "_broadcast_shared_embeddings",
            "_get_lora_unwrapped_name",
            "_megatron_global_param_names_all_pp_ranks",
            "build_conversion_tasks",
            "load_weights_hf_to_megatron",
            "mapping_registry",
            "maybe_modify_loaded_hf_weight",
            "provider_bridge",
            "register_bridge",
            "stream_weights_hf_to_megatron",
            "stream_weights_megatron_to_hf",
        )
    ),
    MODEL_BRIDGE + "HFWeightTuple",
    MODEL_BRIDGE + "_megatron_local_name_to_global",
    MODEL_BRIDGE + "extract_sort_key",
    MODELS + "conversion.auto_bridge:AutoBridge.save_hf_pretrained",
    MODELS + "conversion.auto_bridge:AutoBridge.save_hf_weights",
    MODELS + "conversion.mapping_registry:MegatronMappingRegistry",
    MODELS + "conversion.mapping_registry:MegatronMappingRegistry.megatron_to_hf_lookup",
    MAPPINGS + "AutoMapping",
    MAPPINGS + "FusedExpertMapping",
    MAPPINGS + "FusedGatedExpertMapping",
    MAPPINGS + "GatedMLPMapping",
    MAPPINGS + "RMSNorm2ZeroCenteredRMSNormMapping",
    *(
        f"{MAPPINGS}MegatronParamMapping.{name}"
        for name in (
            "_validate_patterns",
            "broadcast_from_pp_rank",
            "broadcast_obj_from_pp_rank",
            "broadcast_tensor_to_tp_ranks",
            "gather_from_ep_ranks",
            "gather_from_tp_ranks",
            "megatron_to_hf",
            "resolve",
            "scatter_to_tp_ranks",
        )
    ),
    MODELS + "gpt_provider:GPTModelProvider.provide",
    MODELS + "gpt_provider:mtp_block_spec",
    GPT
    + "experimental_attention_variant_module_specs:"
    + "get_transformer_block_with_experimental_attention_variant_spec",
    GPT + "gpt_layer_specs:get_gpt_mtp_block_spec",
    MODELS + "hf_pretrained.base:PreTrainedBase.save_artifacts",
    MODEL + "attention:apply_rotary_pos_emb_absolute",
    MODEL + "rope:_apply_rotary_pos_emb_bshd",
    MODEL + "text_model:Qwen3VLGPTModel.__init__",
    PROVIDERS + "Qwen35VLModelProvider.provide",
    PROVIDERS + "Qwen35VLMoEModelProvider.provide",
    PROVIDERS + "Qwen35VLModelProvider.validate_parallelism",
    PROVIDERS + "Qwen35VLMoEModelProvider.validate_parallelism",
    VISION_LANGUAGE + "Qwen35VLBridge",
    VISION_LANGUAGE + "Qwen35VLMoEBridge",
    TEXT + "Qwen35Bridge",
    TEXT + "Qwen35MoEBridge",
    TRAINING + "checkpointing:_load_base_checkpoint",
    TRAINING + "checkpointing:read_run_config",
    TRAINING + "config:ConfigContainer.to_yaml",
    TRAINING + "model_load_save:load_megatron_model",
    TRAINING + "model_load_save:load_model_config",
)
"""Module, and name in it, of every function that a fix wraps or calls, and of every class that it makes."""

ABSENT = "absent"


def signatures(_world: Any = None) -> dict[str, Any]:
    """Return the parameters of each place in `USED`: names, kinds and defaults, or ABSENT."""
    return {place: _signature(place) for place in USED}


def _signature(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return ABSENT
    for part in name.split("."):
        found = getattr(found, part, ABSENT)
    if found is ABSENT:
        return ABSENT
    parameters = inspect.signature(found).parameters.values()
    return [[parameter.name, parameter.kind.name, _default(parameter)] for parameter in parameters]


def _default(parameter: inspect.Parameter) -> str:
    return "none" if parameter.default is inspect.Parameter.empty else repr(parameter.default)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[1:]
    print(json.dumps(signatures()))

"""Fix ``text-only``: 0.4.x, which has bridges of vision-language models alone, gets text-only ones.

``Qwen3_5MoeForCausalLM`` and ``Qwen3_5ForCausalLM`` are the language models of the vision-language ones: the
same provider without vision fields, and the same mappings without the prefixes ``language_model.`` on
Megatron's side and ``model.language_model.`` on the checkpoint's.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import VISION_LANGUAGE_MODULE, model_bridge
from mtp_bridge_patch.upstream.mappings import changed_keys, is_derived
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_checkpoint.layouts.keys import TEXT_ONLY_PREFIX, TEXT_PREFIX

_ARCHITECTURES = (
    ("Qwen35MoEBridge", "Qwen35VLMoEBridge", "Qwen3_5MoeForCausalLM", "qwen3_5_moe_text"),
    ("Qwen35Bridge", "Qwen35VLBridge", "Qwen3_5ForCausalLM", "qwen3_5_text"),
)
"""Name of each new bridge, the bridge that it is made from, its architecture and model type."""
_DISPATCHERS = ("get_model_bridge", "stream_weights_megatron_to_hf", "stream_adapter_weights_megatron_to_hf")


def install(module: ModuleType) -> Callable[[], None]:
    """Add bridges of text-only models to the module, and register them.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.qwen35_vl_bridge``.

    Returns:
        What takes them away again.
    """
    from megatron.core.models.gpt.gpt_model import GPTModel

    undo = ExitStack()
    for name, vision_language, architecture, model_type in _ARCHITECTURES:
        bridge_class = _text_bridge(name, module, vision_language)
        _register(bridge_class, architecture, model_type, GPTModel)
        undo.callback(_forget, architecture)
        undo.enter_context(replaced(module, name, bridge_class, create=True))
    return undo.close


def _register(bridge_class: Any, architecture: str, model_type: str, target: Any) -> None:
    base = model_bridge().MegatronModelBridge
    base.register_bridge(source=architecture, target=target, model_type=model_type)(bridge_class)


def _forget(architecture: str) -> None:
    for name in _DISPATCHERS:
        dispatcher = getattr(model_bridge(), name)
        for key in list(dispatcher._exact_types):
            if key == architecture or (isinstance(key, tuple) and key[0] == architecture):
                del dispatcher._exact_types[key]
        dispatcher._dispatch_cache.clear()


def _text_bridge(name: str, module: ModuleType, vision_language: str) -> Any:
    base: Any = getattr(module, vision_language)
    provider_of, registry_of = base.provider_bridge, base.mapping_registry  # upstream's, unpatched

    class TextBridge(model_bridge().MegatronModelBridge):  # type: ignore[misc]
        """Bridge of a text-only model."""

        def provider_bridge(self, hf_pretrained: Any) -> Any:
            return _text_provider(provider_of(base(), _as_vision_language(hf_pretrained.config)))

        def mapping_registry(self) -> Any:
            registry = registry_of(base())
            mappings = (_text_mapping(mapping) for mapping in registry if _is_text(mapping))
            return type(registry)(*mappings)

    TextBridge.__name__ = TextBridge.__qualname__ = name
    TextBridge.__module__ = module.__name__
    return TextBridge


def _as_vision_language(config: Any) -> Any:
    tied = getattr(config, "tie_word_embeddings", False)
    nested = SimpleNamespace(text_config=config, vision_config=SimpleNamespace(), tie_word_embeddings=tied)
    return SimpleNamespace(config=nested)


def _text_provider(provider: Any) -> Any:
    """Return the language model's part of a vision-language provider."""
    import torch
    from megatron.bridge.models.gpt_provider import GPTModelProvider
    from megatron.core.models.gpt.experimental_attention_variant_module_specs import (
        get_transformer_block_with_experimental_attention_variant_spec,
    )

    text = GPTModelProvider(
        **{field.name: getattr(provider, field.name) for field in fields(GPTModelProvider) if field.init}
    )
    text.position_embedding_type = "rope"  # without images, all three mrope sections count alike
    text.transformer_layer_spec = get_transformer_block_with_experimental_attention_variant_spec
    text.hetereogenous_dist_checkpoint = True  # upstream's spelling
    text.autocast_dtype = torch.bfloat16
    return text


def _is_text(mapping: Any) -> bool:
    return not mapping.megatron_param.startswith("vision_model.") and not is_derived(mapping)


def _text_mapping(mapping: Any) -> Any:
    name = mapping.megatron_param.removeprefix("language_model.")
    keys = changed_keys(mapping, lambda key: key.replace(TEXT_PREFIX, TEXT_ONLY_PREFIX, 1))
    return type(mapping)(name, **keys) if isinstance(keys, dict) else type(mapping)(name, keys)


FIX = Fix(
    id="text-only",
    failure="Text-only models (Qwen3_5MoeForCausalLM, Qwen3_5ForCausalLM) are not supported.",
    fixed_since="0.5.0",
    modules=MappingProxyType({VISION_LANGUAGE_MODULE: install}),
)

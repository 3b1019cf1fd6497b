"""The methods of upstream's bridges, each wrapped once, where the hooks of fixes are called."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.upstream.bridges import bridges
from mtp_bridge_patch.upstream.conversion import Conversion, begin, begun, chunks, current, resume
from mtp_bridge_patch.upstream.hooks import Export, Hooks, Load
from mtp_bridge_patch.upstream.mappings import is_derived
from mtp_bridge_patch.upstream.replacing import replaced

Method = Callable[..., Any]
Fixes = Sequence[Hooks]


def install_bridges(module: ModuleType, fixes: Fixes) -> Callable[[], None]:
    """Wrap the methods of every bridge that a module defines, signatures kept.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.
        fixes: Whose hooks are called. A method that they have no hook for is left alone, and so is one that a
            release does not have.

    Returns:
        What puts the classes back as they were.

    Raises:
        RuntimeError: The module defines no bridge of the family.
    """
    classes = list(bridges(module))
    if not classes:
        raise RuntimeError(f"{module.__name__} defines no bridge of Qwen3.5; install megatron-bridge anew")
    undo = ExitStack()
    for bridge_class in classes:
        for name, (wrapper_of, hooks) in METHODS.items():
            upstream = getattr(bridge_class, name, None)
            if upstream is not None and any(Hooks.of(fixes, hook) for hook in hooks):
                wrapper = functools.wraps(upstream)(wrapper_of(upstream, fixes))
                undo.enter_context(replaced(bridge_class, name, wrapper))
    return undo.close


def _provider(upstream: Method, fixes: Fixes) -> Method:
    hooks = Hooks.of(fixes, "provider")

    def provider_bridge(self: Any, hf_pretrained: Any) -> Any:
        provider = upstream(self, hf_pretrained)
        for hook in hooks:
            provider = hook(provider, hf_pretrained.config)
        return provider

    return provider_bridge


def _load(upstream: Method, fixes: Fixes) -> Method:
    before_load, around = Hooks.of(fixes, "before_load"), Hooks.of(fixes, "load")

    def load_weights_hf_to_megatron(
        self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        models = chunks(megatron_model)

        def proceed() -> Any:
            conversion = _completed(begin(self, hf_pretrained, megatron_model), fixes)
            _check(conversion, fixes)
            if conversion.source is not None:
                for hook in before_load:
                    hook(Load(self, conversion, models))
            return upstream(self, hf_pretrained, megatron_model, *args, **kwargs)

        for hook in reversed(around):
            proceed = functools.partial(hook, self, models, proceed)
        return proceed()

    return load_weights_hf_to_megatron


def _load_stream(upstream: Method, fixes: Fixes) -> Method:
    def stream_weights_hf_to_megatron(
        self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        _check(_completed(begin(self, hf_pretrained, megatron_model), fixes), fixes)
        return upstream(self, hf_pretrained, megatron_model, *args, **kwargs)

    return stream_weights_hf_to_megatron


def _loaded(upstream: Method, fixes: Fixes) -> Method:
    hooks = Hooks.of(fixes, "loaded")

    def changed(weight: Any, key: str, state: Any) -> Any:
        for hook in hooks:
            weight = hook(weight, key, state)
        return weight

    def maybe_modify_loaded_hf_weight(self: Any, hf_param: Any, hf_state_dict: Any) -> Any:
        weights = upstream(self, hf_param, hf_state_dict)
        if isinstance(hf_param, dict) and isinstance(weights, dict):
            return {
                part: changed(weights[part], key, hf_state_dict) if part in weights else None
                for part, key in hf_param.items()
            }
        return changed(weights, hf_param, hf_state_dict) if isinstance(hf_param, str) else weights

    return maybe_modify_loaded_hf_weight


def _registry(upstream: Method, fixes: Fixes) -> Method:
    hooks = Hooks.of(fixes, "mappings")

    def mapping_registry(self: Any) -> Any:
        registry = upstream(self)
        if (conversion := current(self)) is None:
            return registry
        mappings = [mapping for mapping in registry if not is_derived(mapping)]
        for hook in hooks:
            mappings = list(hook(mappings, conversion))
        return type(registry)(*mappings)

    return mapping_registry


def _tasks(upstream: Method, fixes: Fixes) -> Method:
    pretrained, tasks = Hooks.of(fixes, "pretrained"), Hooks.of(fixes, "tasks")

    def build_conversion_tasks(
        self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        conversion = _completed(begun(self, hf_pretrained, megatron_model), fixes)
        for hook in pretrained:
            hf_pretrained = hook(conversion, hf_pretrained)
        with _naming(fixes):
            built = upstream(self, hf_pretrained, megatron_model, *args, **kwargs)
        for hook in tasks:
            built = hook(built)
        return built

    return build_conversion_tasks


def _names(upstream: Method, fixes: Fixes) -> Method:
    def _megatron_global_param_names_all_pp_ranks(self: Any, megatron_model: Any) -> Any:
        with _naming(fixes):
            return upstream(self, megatron_model)

    return _megatron_global_param_names_all_pp_ranks


def _export(upstream: Method, fixes: Fixes) -> Method:
    signature = inspect.signature(upstream)
    hooks, around = Hooks.of(fixes, "export"), Hooks.of(fixes, "stream")

    def stream_weights_megatron_to_hf(
        self: Any, megatron_model: Any, hf_pretrained: Any, *args: Any, **kwargs: Any
    ) -> Iterator[Any]:
        # No generator itself: what an export is to be like is decided here, when it is asked for.
        asked = signature.bind(self, megatron_model, hf_pretrained, *args, **kwargs).arguments

        def proceed() -> Iterator[Any]:
            conversion = _completed(begin(self, hf_pretrained, megatron_model), fixes)
            exported = upstream(self, megatron_model, hf_pretrained, *args, **kwargs)
            return _exported(self, exported, Export(conversion, asked.get("weight_dtype")), hooks)

        for hook in reversed(around):
            proceed = functools.partial(hook, chunks(megatron_model), proceed)
        return proceed()

    return stream_weights_megatron_to_hf


def _exported(bridge: Any, exported: Any, export: Export, hooks: list[Any]) -> Iterator[Any]:
    resume(bridge, export.conversion)  # the bridge may have been in another since
    for pair in exported:
        kind: Any = type(pair)  # upstream's named tuple
        pairs = [tuple(pair)]
        for hook in hooks:
            pairs = [changed for name, tensor in pairs for changed in hook(name, tensor, export)]
        for name, tensor in pairs:
            yield kind(name, tensor)


def _embeddings(upstream: Method, fixes: Fixes) -> Method:
    hooks = Hooks.of(fixes, "embedding_chunks")

    def _broadcast_shared_embeddings(self: Any, megatron_model: Any) -> Any:
        models = megatron_model if isinstance(megatron_model, list) else [megatron_model]
        for hook in hooks:
            models = hook(models)
        return upstream(self, models)

    return _broadcast_shared_embeddings


def _completed(conversion: Conversion, fixes: Fixes) -> Conversion:
    for hook in Hooks.of(fixes, "begin"):
        hook(conversion)
    return conversion


def _check(conversion: Conversion, fixes: Fixes) -> None:
    if conversion.source is not None:
        for hook in Hooks.of(fixes, "check"):
            hook(conversion)


def _naming(fixes: Fixes) -> ExitStack:
    contexts = ExitStack()
    for hook in Hooks.of(fixes, "naming"):
        contexts.enter_context(hook())
    return contexts


METHODS = MappingProxyType(
    {
        "provider_bridge": (_provider, ("provider",)),
        "load_weights_hf_to_megatron": (_load, ("load", "check", "before_load")),
        "stream_weights_hf_to_megatron": (_load_stream, ("check",)),
        "maybe_modify_loaded_hf_weight": (_loaded, ("loaded",)),
        "mapping_registry": (_registry, ("mappings",)),
        "build_conversion_tasks": (_tasks, ("begin", "mappings", "pretrained", "tasks", "naming")),
        "_megatron_global_param_names_all_pp_ranks": (_names, ("naming",)),
        "stream_weights_megatron_to_hf": (_export, ("begin", "stream", "export")),
        "_broadcast_shared_embeddings": (_embeddings, ("embedding_chunks",)),
    }
)
"""What makes the wrapper of each method, and the hooks that it is needed for."""

"""Stands in for ``megatron.bridge.models.conversion.model_bridge``: what bridges have in common.

A model is a list of chunks with a ``config``, ``named_parameters`` and, where they matter, process groups in
``pg_collection``.
"""

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry

_RELEASE = version("megatron-bridge")


class HFWeightTuple(NamedTuple):
    """What is exported."""

    param_name: str
    weight: Any


def unwrap_model(model: Any) -> Any:
    """Return a model, or a list of chunks, without wrappers."""
    if isinstance(model, list):
        return [unwrap_model(chunk) for chunk in model]
    return getattr(model, "module", model)


def _get_group(megatron_model: Any, name: str) -> Any:
    models = megatron_model if isinstance(megatron_model, list) else [megatron_model]
    return getattr(getattr(models[0], "pg_collection", None), name, None) if models else None


parallel_state = SimpleNamespace(model_parallel_is_initialized=lambda: False)


def _get_pp_group(megatron_model: Any) -> Any:
    return _get_group(megatron_model, "pp")


def _get_ep_group(megatron_model: Any) -> Any:
    return _get_group(megatron_model, "ep")


def is_pp_last_stage(pp_group: Any) -> bool:
    """Tell whether this rank is on the last stage; without a group there is one stage."""
    return pp_group is None or pp_group.rank() == pp_group.size() - 1


def _megatron_local_name_to_global(
    models: Any, config: Any, param_name: str, vp_stage: int | None = None
) -> str:
    """Number grouped experts over expert-parallel ranks."""
    del vp_stage
    group = _get_group(models, "ep")
    match = re.search(r"(?<=\.weight)\d+$", param_name)
    if group is None or match is None or ".mlp.experts.linear_fc" not in param_name:
        return param_name
    number = int(match[0]) + config.num_moe_experts // group.size() * group.rank()
    return param_name[: match.start()] + str(number)


def extract_sort_key(param_name: str) -> tuple[list[int], str]:
    """Return numbers of layer and grouped expert, -1 for none, and the name."""
    matches = (re.search(r"layers\.(\d+)", param_name), re.search(r"(?:bias|weight)(\d+)", param_name))
    numbers = [int(match[1]) for match in matches if match]
    return [*numbers, -1, -1][:2], param_name


class _Dispatch:
    """Calls what is registered for its first argument."""

    def __init__(self) -> None:
        self._exact_types: dict[Any, Callable[..., Any]] = {}
        self._dispatch_cache: dict[Any, Callable[..., Any]] = {}

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        if instance not in self._dispatch_cache:
            if instance not in self._exact_types:
                raise NotImplementedError(instance)
            self._dispatch_cache[instance] = self._exact_types[instance]
        return self._dispatch_cache[instance](instance, *args, **kwargs)


get_model_bridge = _Dispatch()
stream_weights_megatron_to_hf = _Dispatch()
stream_adapter_weights_megatron_to_hf = _Dispatch()


class MegatronModelBridge:
    """Base of all bridges."""

    @classmethod
    def register_bridge(
        cls, *, source: Any, target: Any, provider: Any = None, model_type: str | None = None
    ) -> Callable[[Any], Any]:
        """Return a decorator that registers a bridge."""

        def register(bridge_class: Any) -> Any:
            bridge_class.SOURCE_NAME, bridge_class.PROVIDER_CLASS = source, provider
            bridge_class.MODEL_TYPE = model_type
            get_model_bridge._exact_types[source] = lambda _: bridge_class()
            for dispatcher in (stream_weights_megatron_to_hf, stream_adapter_weights_megatron_to_hf):
                dispatcher._exact_types[source, target] = lambda _: bridge_class()
            return bridge_class

        return register

    def provider_bridge(self, hf_pretrained: Any) -> Any:
        """Return what makes a model."""
        raise NotImplementedError

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        raise NotImplementedError

    def maybe_modify_loaded_hf_weight(self, hf_param: Any, hf_state_dict: Any) -> Any:
        """Return the tensors of a key, or of several."""
        if isinstance(hf_param, str):
            return hf_state_dict[hf_param]
        return {part: hf_state_dict[key] for part, key in hf_param.items()}

    def load_weights_hf_to_megatron(
        self, hf_pretrained: Any, megatron_model: Any, allowed_mismatched_params: list[str] | None = None
    ) -> list[Any]:
        """Return the tasks that a load would do."""
        del allowed_mismatched_params
        tasks = self.build_conversion_tasks(hf_pretrained, megatron_model)
        self._broadcast_shared_embeddings(megatron_model)
        return tasks

    def stream_weights_hf_to_megatron(
        self, hf_pretrained: Any, megatron_model: Any, conversion_tasks: list[Any] | None = None
    ) -> Iterator[Any]:
        """Yield them."""
        yield from conversion_tasks or self.build_conversion_tasks(hf_pretrained, megatron_model)

    def stream_weights_megatron_to_hf(
        self,
        megatron_model: Any,
        hf_pretrained: Any,
        cpu: bool = True,
        show_progress: bool = True,
        conversion_tasks: list[Any] | None = None,
        merge_adapter_weights: bool = True,
    ) -> Iterator[HFWeightTuple]:
        """Yield what mappings make of the parameters."""
        del cpu, show_progress, merge_adapter_weights
        tasks = conversion_tasks or self.build_conversion_tasks(hf_pretrained, megatron_model)
        weights = dict(pair for chunk in megatron_model for pair in chunk.named_parameters())
        for task in tasks:
            for key, weight in task.megatron_to_hf(weights[task.megatron_param], None).items():
                yield HFWeightTuple(key, weight)

    def build_conversion_tasks(self, hf_pretrained: Any, megatron_model: Any) -> list[Any]:
        """Return a mapping for each parameter, or None; every mapping for a model without chunks.

        Like upstream, 0.4.0 and 0.4.1 do not keep the checkpoint.
        """
        if _RELEASE not in ("0.4.0", "0.4.1"):
            self.hf_pretrained = hf_pretrained
        registry = self.mapping_registry()
        if not megatron_model:
            return list(registry)
        names = self._megatron_global_param_names_all_pp_ranks(megatron_model)
        return [registry.megatron_to_hf_lookup(self._get_lora_unwrapped_name(name)) for name in names]

    def _megatron_global_param_names_all_pp_ranks(self, megatron_model: Any) -> list[str]:
        names = {
            _megatron_local_name_to_global(megatron_model, chunk.config, name, stage)
            for stage, chunk in enumerate(megatron_model)
            for name, _ in chunk.named_parameters()
        }
        return sorted(names, key=extract_sort_key)

    def _get_lora_unwrapped_name(self, megatron_param: str) -> str:
        return megatron_param.replace(".to_wrap.", ".")

    def _broadcast_shared_embeddings(self, megatron_model: Any) -> None:
        self.broadcast = megatron_model


if _RELEASE.startswith("0.6."):
    _V05 = MegatronModelBridge

    class MegatronModelBridge(_V05):  # type: ignore[no-redef]
        """0.6.x takes a dtype as well."""

        def stream_weights_megatron_to_hf(
            self,
            megatron_model: Any,
            hf_pretrained: Any,
            cpu: bool = True,
            show_progress: bool = True,
            conversion_tasks: list[Any] | None = None,
            merge_adapter_weights: bool = True,
            weight_dtype: Any = None,
        ) -> Iterator[HFWeightTuple]:
            """Yield the same."""
            tasks = conversion_tasks or self.build_conversion_tasks(
                hf_pretrained, megatron_model, weight_dtype
            )
            yield from super().stream_weights_megatron_to_hf(
                megatron_model, hf_pretrained, cpu, show_progress, tasks, merge_adapter_weights
            )

        def build_conversion_tasks(
            self, hf_pretrained: Any, megatron_model: Any, weight_dtype: Any = None
        ) -> list[Any]:
            """Return the same."""
            del weight_dtype
            return super().build_conversion_tasks(hf_pretrained, megatron_model)


if _RELEASE in ("0.4.0", "0.4.1"):  # which ask Megatron-Core, and take no model's own groups
    del _get_ep_group, _get_pp_group, is_pp_last_stage
    _NOBODY = SimpleNamespace(rank=lambda: 0, size=lambda: 1)
    parallel_state.get_expert_model_parallel_group = lambda: _NOBODY
    parallel_state.get_pipeline_model_parallel_group = lambda: _NOBODY

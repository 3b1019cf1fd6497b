"""The ranks that share a model; 0.4.0 and 0.4.1 know Megatron-Core's groups alone, not a model's own."""

from typing import Any

from mtp_bridge_patch.upstream.bridges import model_bridge


def expert_parallel_group(models: list[Any]) -> Any:
    """Return the group of the ranks that experts are shared between; None if there is none."""
    module = model_bridge()
    if hasattr(module, "_get_ep_group"):
        return module._get_ep_group(models)
    return module.parallel_state.get_expert_model_parallel_group()


def is_last_stage(models: list[Any]) -> bool:
    """Tell whether this rank is on the last pipeline stage."""
    module = model_bridge()
    if hasattr(module, "_get_pp_group"):
        return bool(module.is_pp_last_stage(module._get_pp_group(models)))
    group = module.parallel_state.get_pipeline_model_parallel_group()
    return bool(group.rank() == group.size() - 1)

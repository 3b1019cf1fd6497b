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


def sharing_ranks(models: list[Any]) -> Any:
    """Return the group of the ranks that have one copy of the model between them.

    None if there are no such groups, as in a process alone.
    """
    state = model_bridge().parallel_state
    own = _own_groups(models)
    dense, experts = (getattr(own, name, None) for name in ("mp", "tp_ep_pp"))
    if dense is None:
        if not state.model_parallel_is_initialized():
            return None
        dense = state.get_model_parallel_group()
        experts = state.get_expert_tensor_model_pipeline_parallel_group(check_initialized=False)
    # Ranks are numbered so that one of the two is a part of the other.
    return dense if experts is None else max(dense, experts, key=lambda group: group.size())


def stage_and_pipeline(models: list[Any]) -> tuple[Any, Any] | None:
    """Return the group of the ranks of this rank's pipeline stage, and that of one rank of every stage.

    None if there are no such groups, as in a process alone.
    """
    state = model_bridge().parallel_state
    own = _own_groups(models)
    stage, pipeline = (getattr(own, name, None) for name in ("tp_dp_cp", "pp"))
    if stage is not None and pipeline is not None:
        return stage, pipeline
    if not state.model_parallel_is_initialized():
        return None
    return (
        state.get_tensor_and_data_parallel_group(with_context_parallel=True),
        state.get_pipeline_model_parallel_group(),
    )


def _own_groups(models: list[Any]) -> Any:
    """Return the groups that a model was built with; None where it does not say."""
    return getattr(model_bridge(), "_get_pg_collection_from_model", lambda _models: None)(models)

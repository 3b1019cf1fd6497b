"""Fix ``checkpoint-pipeline``: a Megatron checkpoint loads in another pipeline than the one it was saved in.

Its config has how the pipeline was cut (a layout, or whether embedding and loss count as layers).
``load_megatron_model`` keeps that for the pipeline that is asked for, which it need not fit: Megatron-Core
refuses it, or the model lacks the layers of all stages but one. That the caller asks for no layout (None) is
passed over. Here a cut holds for the number of stages that it was made for, unless the caller names another.

0.4.x saves a layout as an object without what it was made of, and cannot read that; here, as in 0.5.x, it is
taken for none.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import installed

_STAGES, _LAYOUT = "pipeline_model_parallel_size", "pipeline_model_parallel_layout"
_UNCUT = {
    _LAYOUT: None,
    "account_for_embedding_in_pipeline_split": False,
    "account_for_loss_in_pipeline_split": False,
}
_asked_for: ContextVar[Mapping[str, Any] | None] = ContextVar("asked_for", default=None)
"""The model-parallel settings that the `load_megatron_model` under way is asked for; None outside of one."""


def install(module: ModuleType) -> Callable[[], None]:
    """Forget a checkpoint's cut where it is not that of the pipeline that is asked for.

    Args:
        module: The imported ``megatron.bridge.training.model_load_save``.

    Returns:
        What puts the module back as it was.
    """
    load, load_config = module.load_megatron_model, module.load_model_config

    @functools.wraps(load)
    def load_megatron_model(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(load).bind(*args, **kwargs).arguments
        token = _asked_for.set(given.get("mp_overrides") or {})
        try:
            return load(*args, **kwargs)
        finally:
            _asked_for.reset(token)

    @functools.wraps(load_config)
    def load_model_config(*args: Any, **kwargs: Any) -> Any:
        result = load_config(*args, **kwargs)
        asked_for = _asked_for.get()
        if asked_for is not None:
            _forget_cut(result[0], asked_for)
        return result

    return installed(module, load_megatron_model=load_megatron_model, load_model_config=load_model_config)


def install_reading(module: ModuleType) -> Callable[[], None]:
    """Take a layout for none that was saved without what it was made of.

    Args:
        module: The imported ``megatron.bridge.training.checkpointing``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module.read_run_config

    @functools.wraps(upstream)
    def read_run_config(run_config_filename: Any) -> Any:
        config = upstream(run_config_filename)
        model = config.get("model")
        if not isinstance(model, Mapping) or not isinstance(model.get(_LAYOUT), Mapping):
            return config
        return {**config, "model": {**model, _LAYOUT: None}}

    return installed(module, read_run_config=read_run_config)


def _forget_cut(config: Any, asked_for: Mapping[str, Any]) -> None:
    stages = asked_for.get(_STAGES) or 1  # as upstream takes it
    if stages != config.pipeline_model_parallel_size:
        forgotten = [*_UNCUT]
    else:
        forgotten = [name for name in _UNCUT if name in asked_for]
    for name in forgotten:
        if hasattr(config, name):
            setattr(config, name, _UNCUT[name])


FIX = Fix(
    id="checkpoint-pipeline",
    failure="A Megatron checkpoint that has a pipeline layout does not load in another pipeline.",
    fixed_since=None,
    modules=MappingProxyType(
        {
            "megatron.bridge.training.model_load_save": install,
            "megatron.bridge.training.checkpointing": install_reading,
        }
    ),
)

"""Stands in for ``megatron.bridge.training.model_load_save``."""

from types import SimpleNamespace
from typing import Any

SAVED = {
    "pipeline_model_parallel_size": 2,
    "pipeline_model_parallel_layout": [["embedding", "decoder"], ["decoder", "mtp", "loss"]],
    "account_for_embedding_in_pipeline_split": True,
    "account_for_loss_in_pipeline_split": True,
}


def load_model_config(checkpoint_path: str) -> tuple[Any, Any]:
    """Return a model's config, and no arguments of Megatron-LM."""
    return SimpleNamespace(path=checkpoint_path, **SAVED), None


def load_megatron_model(
    checkpoint_path: str,
    model_type: str | None = None,
    return_state_dict: bool = False,
    use_cpu_init: bool = False,
    skip_temp_dist_context: bool | None = None,
    mp_overrides: dict[str, Any] | None = None,
) -> Any:
    """Return the config by which the model would be built."""
    del model_type, return_state_dict, use_cpu_init, skip_temp_dist_context
    config, _ = load_model_config(checkpoint_path)
    config.pipeline_model_parallel_size = 1
    for name, value in (mp_overrides or {}).items():
        if value is not None:
            setattr(config, name, value)
    return config

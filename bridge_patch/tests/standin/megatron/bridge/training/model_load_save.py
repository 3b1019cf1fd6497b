"""Stands in for ``megatron.bridge.training.model_load_save``."""

from types import SimpleNamespace
from typing import Any


def load_model_config(checkpoint_path: str) -> tuple[Any, Any]:
    """Return a model's config, and no arguments of Megatron-LM."""
    return SimpleNamespace(path=checkpoint_path), None

"""Stands in for ``megatron.bridge.training.config``."""

from pathlib import Path
from typing import Any


class _ConfigContainerBase:
    """Upstream inherits `to_yaml` too."""

    def to_yaml(self, yaml_path: str | None = None) -> None:
        """Write a file."""
        if yaml_path is not None:
            Path(yaml_path).write_text("model: {}\n")


class ConfigContainer(_ConfigContainerBase):
    """Config of a training run."""

    def __init__(self, model: Any) -> None:
        self.model = model

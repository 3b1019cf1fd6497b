"""Stands in for ``megatron.bridge.training.config``."""

from importlib.metadata import version
from pathlib import Path
from typing import Any


class _ConfigContainerBase:
    """Upstream inherits `to_yaml` too."""

    def to_yaml(self, yaml_path: str) -> None:
        """Write a file."""
        Path(yaml_path).write_text("model: {}\n")


class _ConfigContainerBaseOf04:
    """It may be given no path then, and prints the YAML."""

    def to_yaml(self, yaml_path: str | None = None) -> None:
        """Write a file, or nothing."""
        if yaml_path is not None:
            Path(yaml_path).write_text("model: {}\n")


_BASE: Any = (
    _ConfigContainerBaseOf04 if version("megatron-bridge").startswith("0.4.") else _ConfigContainerBase
)


class ConfigContainer(_BASE):
    """Config of a training run."""

    def __init__(self, model: Any) -> None:
        self.model = model

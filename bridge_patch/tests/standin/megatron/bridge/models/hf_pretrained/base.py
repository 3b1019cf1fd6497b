"""Stands in for ``megatron.bridge.models.hf_pretrained.base``."""

from abc import ABC
from pathlib import Path
from typing import Any


class PreTrainedBase(ABC):  # noqa: B024 (as upstream's, but for what loads)
    """A checkpoint, or a part of one."""

    def __init__(self, config: Any) -> None:
        self._config = None
        self.source = config

    @property
    def config(self) -> Any:
        """Return the config, loaded when it is asked for first."""
        if self._config is None:
            self._config = self.source
        return self._config

    def save_artifacts(
        self,
        save_directory: str | Path,
        original_source_path: str | Path | None = None,
        additional_files: list[str] | None = None,
    ) -> None:
        """Save the config, without what it says of quantization."""
        del original_source_path, additional_files
        if hasattr(self.config, "quantization_config"):
            del self.config.quantization_config
        self.config.save_pretrained(save_directory)

"""Stands in for ``megatron.bridge.models.hf_pretrained.base``."""

from abc import ABC
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class SafeTensorsStateSource:
    """Reads the weights; upstream's is in another module."""

    def __init__(self, path: str | Path) -> None:
        self.model_name_or_path = path
        self._resolved_path_cache: Path | None = None

    @property
    def path(self) -> Path:
        """Return the folder of the files, found when it is asked for first."""
        if self._resolved_path_cache is None:
            self._resolved_path_cache = self._resolve_path(self.model_name_or_path)
        return self._resolved_path_cache

    @staticmethod
    def _resolve_path(model_name_or_path: str | Path) -> Path:
        return Path("main of", model_name_or_path)


class PreTrainedBase(ABC):  # noqa: B024 (as upstream's, but for what loads)
    """A checkpoint, or a part of one."""

    def __init__(self, config: Any, model_name_or_path: str | Path = "org/name", **kwargs: Any) -> None:
        self._config = None
        self._state: Any = None
        self.source = config
        self.model_name_or_path = model_name_or_path
        self.init_kwargs = kwargs

    @property
    def config(self) -> Any:
        """Return the config, loaded when it is asked for first."""
        if self._config is None:
            self._config = self.source
        return self._config

    @property
    def state(self) -> Any:
        """Return what weights are read with."""
        if self._state is None:
            self._state = SimpleNamespace(source=SafeTensorsStateSource(self.model_name_or_path))
        return self._state

    @state.setter
    def state(self, value: Any) -> None:  # upstream has none; other tests give it one
        self._state = value

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

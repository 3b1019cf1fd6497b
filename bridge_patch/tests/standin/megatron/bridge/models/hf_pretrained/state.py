"""Stands in for ``megatron.bridge.models.hf_pretrained.state``."""

import json
from functools import lru_cache
from pathlib import Path


class SafeTensorsStateSource:
    """Reads the weights; it has what is remembered of a path alone."""

    @staticmethod
    @lru_cache(maxsize=None)  # noqa: UP033 (as upstream's)
    def _cached_get_key_to_filename_map(model_name_or_path: str | Path) -> dict[str, str] | None:
        index = Path(model_name_or_path, "model.safetensors.index.json")
        return dict(json.loads(index.read_text())["weight_map"]) if index.exists() else None

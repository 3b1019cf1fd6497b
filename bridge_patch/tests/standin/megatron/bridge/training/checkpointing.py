"""Stands in for ``megatron.bridge.training.checkpointing``."""

from typing import Any


def _load_base_checkpoint(load_dir: str | None, *, cfg: Any = None) -> tuple[Any, str, bool, Any]:
    """Return no state, the folder that it would be of, and no more."""
    del cfg
    return None, load_dir or "", False, None

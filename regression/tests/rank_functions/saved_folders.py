"""Saves a checkpoint again through the patched bridge, on a rank of its own."""

import importlib
from pathlib import Path

from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def save_again(
    _world: World, adapter_name: str, checkpoint: str, folder: str, dtype: str | None = None
) -> None:
    """Load a checkpoint through an adapter's bridge and save it.

    Args:
        adapter_name: See `adapters.find.find`.
        checkpoint: Its folder.
        folder: Where to save it.
        dtype: What to ask for, by torch's name of it; of 0.6.x.
    """
    import torch

    importlib.import_module(adapter_name.partition(":")[0])
    bridge = Used(adapter_name)
    try:
        bridge.begin(Path(checkpoint), Parallel())
        # Not strict: upstream misses the scales of a checkpoint that is not saved in FP8.
        options = {} if dtype is None else {"weight_dtype": getattr(torch, dtype), "strict": False}
        bridge.save(Path(folder), **options)
    finally:
        bridge.close()

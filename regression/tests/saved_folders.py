"""Saves a checkpoint again through the patched bridge, on a rank of its own."""

import importlib
from pathlib import Path

from mtp_regression import adapter
from mtp_regression.parallel import Parallel
from mtp_regression.rendezvous import World


def save_again(_world: World, adapter_name: str, checkpoint: str, folder: str) -> None:
    """Load a checkpoint through an adapter's bridge and save it."""
    importlib.import_module(adapter_name.partition(":")[0])
    bridge = adapter.find(adapter_name)()
    try:
        bridge.load(Path(checkpoint), Parallel())
        bridge.save(Path(folder))
    finally:
        bridge.close()

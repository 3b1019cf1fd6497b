"""Saves checkpoints, one after the other, into one folder."""

from collections.abc import Sequence
from pathlib import Path

from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def save_all(_world: World, adapter: str, checkpoints: Sequence[Path], folder: Path) -> None:
    for checkpoint in checkpoints:
        bridge = Used(adapter)
        try:
            bridge.begin(checkpoint, Parallel())
            bridge.save(folder)
        finally:
            bridge.close()

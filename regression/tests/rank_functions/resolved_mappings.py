"""Which parameters of an MTP block a release of Megatron-Bridge maps to which keys of a checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import mtp_bridge_patch
from mtp_bridge_patch.upstream.mappings import keys_of
from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def mtp_mappings(_world: World, checkpoint: str, patched: bool) -> list[str]:
    """List the mappings of a checkpoint's MTP parameters, resolved for the model it gives.

    Args:
        _world: A world of one rank.
        checkpoint: Folder of the checkpoint.
        patched: Whether `mtp_bridge_patch` is applied.

    Returns:
        Lines "Megatron parameter <- MappingClass <- keys", sorted; "nothing" where there is no mapping.
    """
    from mtp_regression.adapters.megatron_bridge import MegatronBridge  # imports Megatron

    with mtp_bridge_patch.patched() if patched else nullcontext():
        bridge = Used(MegatronBridge())
        bridge.begin(Path(checkpoint), Parallel())
        lines = []
        for task in bridge.conversion_tasks():
            if task is None or ".mtp." not in f".{task.param_name}":
                continue
            keys = ", ".join(keys_of(task.mapping))
            lines.append(f"{task.param_name} <- {type(task.mapping).__name__} <- {keys}")
        bridge.close()
    return sorted(lines)

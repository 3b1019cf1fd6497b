"""A function that test_mtp_shared_weights has run on ranks."""

from pathlib import Path

import torch

from mtp_bridge_patch.errors import SharedWeightsError
from mtp_regression.adapters.using import Used
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def change_each(
    _world: World, checkpoint: str, parallel: str, copies: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Load a checkpoint, then change one copy at a time, export, and change it back.

    Args:
        checkpoint: The checkpoint's folder.
        parallel: The parallel layout.
        copies: Ends of the names of the parameters to change.

    Returns:
        What each export said, and what differs from the checkpoint in a last one, with nothing changed.
    """
    from mtp_regression.adapters.megatron_bridge import PatchedMegatronBridge

    bridge = Used(PatchedMegatronBridge())
    bridge.begin(Path(checkpoint), Parallel.parse(parallel))
    said = {}
    for copy in copies:
        held = [parameter for name, parameter in bridge.parameters() if name.endswith(copy)]
        before = [parameter.detach().clone() for parameter in held]
        for parameter in held:
            _flip_last_bit(parameter)
        try:
            exported = [name for name, _ in bridge.stream()]
            said[copy] = f"exported {len(exported)} tensors"
        except SharedWeightsError as error:
            said[copy] = str(error)
        for parameter, values in zip(held, before, strict=True):
            parameter.data.copy_(values)
    unchanged = ((name, RawTensor.from_torch(tensor)) for name, tensor in bridge.stream())
    found = compare(read_folder(Path(checkpoint)), unchanged)
    bridge.close()
    return said, [f"{finding.tensor}: {finding.verdict} {finding.detail}" for finding in found]


def _flip_last_bit(parameter: torch.Tensor) -> None:
    """Change the last element by the least that BF16 can tell."""
    parameter.data.view(-1)[-1:].view(torch.int16).bitwise_xor_(1)

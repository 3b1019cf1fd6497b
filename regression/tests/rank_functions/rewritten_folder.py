"""A function that test_mtp_rewritten_folder has run on a rank."""

import shutil
from pathlib import Path

from mtp_regression.adapters.using import Used
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def load_each(_world: World, adapter_name: str, folder: str, checkpoints: list[str]) -> list[list[str]]:
    """Put checkpoints into one folder, one after the other, and load and export each.

    Args:
        adapter_name: See `adapters.find.find`.
        folder: The folder.
        checkpoints: Folders of checkpoints.

    Returns:
        What differs from each in the export.
    """
    found = []
    for checkpoint in checkpoints:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(checkpoint, folder)
        bridge = Used(adapter_name)
        try:
            bridge.begin(Path(folder), Parallel())
            exported = ((name, RawTensor.from_torch(tensor)) for name, tensor in bridge.stream())
            found.append([str(finding) for finding in compare(read_folder(Path(checkpoint)), exported)])
        finally:
            bridge.close()
    return found

"""What the build of a model takes of a rank's memory, counted at every operation of torch."""

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mtp_bridge_patch
from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


class Memory(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of the tensors that are made inside a ``with`` block, for as long as they live.

    Attributes:
        held: Bytes of those that live.
        peak: The most that it has been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place not in self._storages:
            self._storages.add(place)
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._storages.remove(place)
        self.held -= size


def build(world: World, checkpoint: str, parallel: str, skip: Sequence[str]) -> dict[str, Any]:
    """Build the patched bridge's model.

    Args:
        world: As many ranks as the layout has.
        checkpoint: Folder of the checkpoint.
        parallel: The parallel layout.
        skip: Ids of fixes to leave out.

    Returns:
        "peak": the most bytes that tensors had; "bytes": those of the parameters, by chunk and first part of
        the name, such as "0/decoder"; "parameters": names, shapes and dtypes, in their order; "keys": of
        `state_dict`, in theirs.
    """
    from mtp_regression.adapters.megatron_bridge import MegatronBridge  # imports Megatron

    mtp_bridge_patch.apply(skip=skip)
    bridge, memory = Used(MegatronBridge(), world), Memory()
    with memory:
        bridge.build(Path(checkpoint), Parallel.parse(parallel))
    sizes: Counter[str] = Counter()
    parameters = []
    for name, parameter in bridge.parameters():
        sizes[name.partition(".")[0]] += parameter.nbytes
        parameters.append((name, tuple(parameter.shape), str(parameter.dtype)))
    keys = [key for chunk in bridge.model for key in chunk.state_dict()]
    bridge.close()
    mtp_bridge_patch.revert()
    return {"peak": memory.peak, "bytes": sizes, "parameters": parameters, "keys": keys}

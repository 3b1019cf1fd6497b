"""What a machine has room for: ranks at a time, and generated checkpoints, asked before anything is made."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mtp_checkpoint.layouts.keys import EMBEDDING, Block
from mtp_fixtures import CheckpointSpec
from mtp_fixtures.model.tensor import StoredTensor
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.ranks.world import World
from mtp_regression.stages.case import SAVING, Stage

_WORKING = 6
"""Large tensors that a rank has besides its model: the last two that were made for the bridge, the last two
for the comparison, one that is being converted, and its bytes."""
_WORKING_ON_GPU = 3
_RANK = 5 * 10**8
"""Bytes of memory that a rank takes, without its tensors, beside what it shares with the others."""
_COPIES = 4
"""Copies of a checkpoint that a case may hold."""


@dataclass(frozen=True)
class Need:
    """About what a case takes, in bytes.

    Attributes:
        model: Of a rank's shard of the model.
        building: What a rank holds besides while its model is built, and not afterwards.
        largest: Of the largest tensor.
        packed: Of the packed experts of a rank's layers. Megatron-Bridge 0.6 holds on to those it has read
            until its load ends (`load_weights_hf_to_megatron`, `_hf_import_cache`).
        saved: Of the saved folder.
    """

    model: int
    building: int
    largest: int
    packed: int
    saved: int


def need_of(spec: CheckpointSpec, parallel: Parallel, built_twice: Collection[Block] = ()) -> Need:
    """Add up what a case takes.

    Args:
        spec: The checkpoint.
        parallel: The parallel layout.
        built_twice: See `adapters.protocol.MayHave`.
    """
    sizes = [tensor.byte_count for tensor in spec.tensors]
    packed = sum(tensor.byte_count for tensor in spec.tensors if tensor.place.stacked)
    if not any(tensor.place.block is Block.VISION for tensor in spec.tensors):
        built_twice = ()
    twice = [
        tensor
        for tensor in spec.tensors
        if tensor.place.block in built_twice and tensor.place.name != EMBEDDING  # its block is the decoder
    ]
    return Need(
        model=_shard(spec.tensors, parallel),
        building=_shard(twice, parallel),
        largest=max(sizes),
        packed=packed // parallel.pp,
        saved=sum(sizes),
    )


def _shard(tensors: Iterable[StoredTensor], parallel: Parallel) -> int:
    """Add up a rank's share.

    Ranks are taken to have equal shares, in BF16: of routed experts by PP, EP and ETP, of the rest by PP and
    TP. The first and the last pipeline stage have more.
    """
    experts = rest = 0
    for tensor in tensors:
        size = 0 if tensor.place.scale else 2 * sum(part.count for part in tensor.parts)
        if tensor.place.projection:
            experts += size
        else:
            rest += size
    return experts // (parallel.pp * parallel.ep * parallel.etp) + rest // (parallel.pp * parallel.tp)


def _need_of_case(
    spec: CheckpointSpec, parallel: Parallel | Resharding, built_twice: Collection[Block]
) -> Need:
    if isinstance(parallel, Parallel):
        return need_of(spec, parallel, built_twice)
    before, after = (need_of(spec, one, built_twice) for one in (parallel.before, parallel.after))
    model, building = max(before.model, after.model), max(before.building, after.building)
    return replace(before, model=model, building=building, saved=2 * before.saved)


def lack_of_room(
    generated: Mapping[str, CheckpointSpec],
    parallel: Parallel | Resharding,
    device: Device,
    world: World | None,
    report_path: Path,
    stages: Collection[Stage],
    built_twice: Collection[Block] = (),
) -> str:
    """Say what the first of some checkpoints needs more of than is free; empty if all have what they need.

    Args:
        generated: The checkpoints, by name.
        parallel: The parallel layout, or the two for a Megatron checkpoint, which then is on disk as well.
        device: Where the ranks keep their tensors.
        world: See `ranks.world.external_world`. Each of such ranks asks for itself.
        report_path: Where the report of the run goes, beside which such ranks save.
        stages: Those that will be taken, of those that are known.
        built_twice: See `adapters.protocol.MayHave`.
    """
    ranks, scratch = parallel.ranks, Path(tempfile.gettempdir())
    if world is not None:
        ranks, scratch = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), report_path.absolute().parent
    for name, spec in generated.items():
        need = _need_of_case(spec, parallel, built_twice)
        if SAVING.isdisjoint(stages):
            need = replace(need, saved=0)
        lacking = list(_lacking(need, ranks, device, scratch))
        if lacking:
            return f"{name}, {parallel}, needs {', '.join(lacking)}"
    return ""


def free_cores(checkpoints: Iterable[Path]) -> int:
    """Return how many ranks may run at a time: one a core, as far as there is memory.

    Args:
        checkpoints: The folders that will be taken.
    """
    import psutil

    sizes = (sum(file.stat().st_size for file in folder.glob("*.safetensors")) for folder in checkpoints)
    fit: int = psutil.virtual_memory().available // (_RANK + _COPIES * max(sizes, default=0))
    return max(1, min(len(os.sched_getaffinity(0)), fit))


def _lacking(need: Need, ranks: int, device: Device, scratch: Path) -> Iterator[str]:
    import psutil

    on_host = _WORKING * need.largest + need.packed
    if device.on_gpu:
        import torch

        on_each = -(-ranks // torch.cuda.device_count())  # ranks
        free, _ = torch.cuda.mem_get_info()
        on_gpu = need.model + max(need.building, _WORKING_ON_GPU * need.largest)
        yield from _more(on_each * on_gpu, free, "of a GPU's memory")
    else:
        on_host = need.model + max(need.building, on_host)
    yield from _more(ranks * on_host, psutil.virtual_memory().available, "of memory")
    while not scratch.exists():
        scratch = scratch.parent
    yield from _more(need.saved, shutil.disk_usage(scratch).free, f"of disk at {scratch}")


def _more(needed: int, free: int, what: str) -> Iterator[str]:
    if needed > free:
        yield f"{needed / 1e9:.1f} GB {what} ({free / 1e9:.1f} GB free)"

"""How a process becomes one rank of a torch.distributed process group.

`World` describes a rank, whether it was started by `ranks.run`, by torchrun or by Slurm.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.ledger import WAIT, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """A rank's place in the process group.

    Attributes:
        rank: From 0 to `size - 1`.
        size: Number of ranks on all nodes.
        local_rank: Rank within the node.
        device: The device of the rank's tensors; decides the backend.
        rendezvous: URL of the rendezvous, as torch.distributed takes it: file://, tcp:// or env://.
        ledger: Where its time goes.
    """

    rank: int
    size: int
    local_rank: int
    device: Device
    rendezvous: str
    ledger: Ledger = field(default_factory=Ledger, compare=False)

    @property
    def gpu(self) -> int:
        """Index of the rank's GPU among those that it sees; round-robin if there are fewer GPUs than ranks.

        A rank may see only its own (Slurm's `--gpus-per-task`), or share one (`Device.CUDA_SHARED`).

        Raises:
            RuntimeError: The rank sees no GPU.
        """
        import torch

        gpus: int = torch.cuda.device_count()
        if not gpus:
            raise RuntimeError(f"rank {self.rank} of {self.size} sees no GPU")
        return self.local_rank % gpus

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order; called on every rank. Values are pickled."""
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with self.ledger.step(WAIT):
            dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        import torch.distributed as dist

        with self.ledger.step(WAIT):
            dist.barrier(device_ids=[self.gpu] if self.device is Device.CUDA else None)

    def peak_gpu_bytes(self) -> int:
        """Return the most that torch has allocated on this rank's GPU since it joined; 0 without one."""
        import torch

        return int(torch.cuda.max_memory_allocated())


def is_rank(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun, or srun with several tasks, started this process as a rank; see `external_world`."""
    return "RANK" in environ or int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def external_world(device: Device = Device.CPU, environ: Mapping[str, str] = os.environ) -> World | None:
    """Finds out whether torchrun, or srun with several tasks, started this process as a rank.

    Slurm's variables of the step are read, not those of the job: a batch script is not a rank, and has
    SLURM_PROCID and SLURM_NTASKS too (srun(1), "OUTPUT ENVIRONMENT VARIABLES").

    Args:
        device: The device of the ranks' tensors.
        environ: The environment variables to read.

    Returns:
        This rank's place, or None if the process is not a rank: then `mtp_regression.ranks.run` can start
        ranks.

    Raises:
        ValueError: The variables name a rank but not the address where the ranks meet.
    """
    if "RANK" in environ:
        missing = [name for name in _TORCHRUN if name not in environ]
        if missing:
            raise ValueError(
                f"RANK is set, so this process is a rank, but {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not; start it with torchrun, or unset RANK"
            )
        rank, size, local_rank = (int(environ[name]) for name in _TORCHRUN[:3])
        return World(rank, size, local_rank, device, "env://")
    if is_rank(environ):
        rank, size, local_rank = (
            int(environ[name]) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        )
        return World(rank, size, local_rank, device, _slurm_rendezvous(environ))
    return None


def _slurm_rendezvous(environ: Mapping[str, str]) -> str:
    """URL of the rendezvous of a Slurm step; derived from its ids without MASTER_ADDR and MASTER_PORT."""
    if int(environ["SLURM_STEP_NUM_NODES"]) > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= environ.keys():
        raise ValueError(
            "a Slurm step on several nodes needs MASTER_ADDR and MASTER_PORT; before srun:\n"
            '  export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
            "  export MASTER_PORT=29500"
        )
    # The same port in every task, another in every step; below the ports that Linux gives out.
    step = int(environ["SLURM_JOB_ID"]) * 16 + int(environ["SLURM_STEP_ID"])
    return (
        f"tcp://{environ.get('MASTER_ADDR', '127.0.0.1')}:{environ.get('MASTER_PORT', 20000 + step % 10000)}"
    )


@functools.cache
def _store(world: World, timeout: timedelta) -> tuple[Any, Iterator[int]]:
    """The ranks' key-value store, one for the life of the process, and a count of the groups that used it.

    With one per group, a fast rank would find the previous group's, still open, at the same address.
    """
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous(world.rendezvous, world.rank, world.size, timeout=timeout))
    return store, itertools.count()


def join(world: World, timeout: timedelta = timedelta(minutes=30)) -> None:
    """Initialises the default process group; every rank of `world` must call it.

    Args:
        world: This process's place.
        timeout: Of the rendezvous and of each collective.
    """
    import torch
    import torch.distributed as dist

    # Megatron uses LOCAL_RANK as the index of the rank's GPU.
    local_rank = world.gpu if world.device.on_gpu else world.local_rank
    os.environ.update(world.device.environment)
    os.environ.update(RANK=str(world.rank), WORLD_SIZE=str(world.size), LOCAL_RANK=str(local_rank))
    if world.device.on_gpu:
        torch.cuda.set_device(world.gpu)
        torch.cuda.reset_peak_memory_stats()
    # The store outlives the group; a prefix keeps each group's keys apart.
    store, groups = _store(world, timeout)
    store = dist.PrefixStore(f"join{next(groups)}", store)
    dist.init_process_group(
        world.device.backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout
    )


def leave(world: World, *, ends: bool = False) -> None:
    """Waits for all ranks, so that no connection closes too early, and destroys the process groups.

    Gives the GPU's memory back, of which another process, or the next case, may need all.

    Args:
        world: The group.
        ends: This process ends at once, and the kernel does the rest. Megatron has two dozen groups, and gloo
            takes 10 ms to destroy each.
    """
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        world.barrier()
        if ends:
            return
        dist.destroy_process_group()
    if world.device.on_gpu:
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def joined(world: World) -> Iterator[None]:
    """Makes this process a rank of `world` for the length of a `with` block.

    For processes that torchrun or Slurm started. It can be entered any number of times, but by all ranks
    together.
    """
    import torch.distributed as dist

    with world.ledger.step("join"):
        join(world)
    try:
        yield
    except BaseException:
        # No barrier here: the other ranks may never reach it.
        if dist.is_initialized():
            dist.destroy_process_group()
        raise
    leave(world)

"""Functions that test_ranks has run on ranks, and, as a script, one that torchrun runs."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from mtp_regression.ranks.world import World, external_world, joined, leave

IMPORTED_BY = os.getpid()


def total(world: World) -> float:
    """Sum over the ranks of rank + 1."""
    value = torch.tensor([world.rank + 1.0])
    dist.all_reduce(value)
    return value.item()


def started() -> None:
    """Logs the process id and waits until every rank has."""
    print(f"pid {os.getpid()}")
    dist.barrier()


def facts(world: World, names: list[str]) -> dict[str, Any]:
    started()
    return {
        "rank": world.rank,
        "total": total(world),
        "threads": torch.get_num_threads(),
        "environment": [os.environ[name] for name in names],
        "start_method": multiprocessing.get_start_method(),
        "has_pytest": "pytest" in sys.modules,
        "policies": {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()},
    }


def keeps_its_groups(world: World) -> float:
    """To destroy process groups is an error on this rank, whose process ends."""
    dist.destroy_process_group = lambda: os._exit(3)
    return total(world)


def speaks(_world: World) -> None:
    started()
    print("by print")
    os.write(2, b"by descriptor 2\n")
    os.write(1, b"by descriptor 1\n")
    print("by stderr", file=sys.stderr)


def ends(world: World, how: str) -> float:
    """Rank 1 ends as told, while rank 0 waits for it in a collective."""
    started()
    if world.rank == 1:
        if how == "raise":
            raise LookupError("the expert is gone")
        if how == "echo first":
            dist.destroy_process_group()
            time.sleep(0.3)
            raise LookupError("the expert is gone")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        print("last words")
        os._exit(int(how))
    return total(world)


def given(world: World, value: Any) -> tuple[Any, int]:
    return value, world.rank


def unfit(world: World) -> object:
    started()
    return (lambda: 1) if world.rank == 1 else 0


def hangs(world: World) -> float:
    """Rank 1 sleeps in C code without letting go of the GIL, with a process of its own beside it."""
    if world.rank == 1:
        child = subprocess.Popen(["sleep", "600"])
        print(f"pid {child.pid}")
    started()
    if world.rank == 1:
        ctypes.PyDLL(None).sleep(600)
    return total(world)


def meet_in_different_calls(world: World) -> None:
    """Each rank waits for the other in another call."""
    started()
    tensor = torch.zeros(1)
    if world.rank == 1:
        dist.recv(tensor, src=0)
    dist.all_reduce(tensor)


def sleeps_a_while(world: World) -> float:
    """Rank 0 waits for rank 1, and rank 1 for some time to pass."""
    started()
    if world.rank == 1:
        time.sleep(3)
    return total(world)


def has_a_process_compute(world: World) -> float:
    """Rank 0 waits for rank 1, and rank 1 for a process of its own."""
    started()
    if world.rank == 1:
        source = "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
        with subprocess.Popen([sys.executable, "-c", source]) as process:
            process.wait()
    return total(world)


def leaves_a_process(_world: World) -> None:
    print(f"pid {subprocess.Popen(['sleep', '600']).pid}")


def imported_by(_world: World) -> int:
    return IMPORTED_BY


def as_slurm_tasks(world: World) -> list[float]:
    """Meets again, twice, as Slurm's tasks would."""
    leave(world)  # not before the other has joined
    task = external_world(
        environ={
            "SLURM_PROCID": str(world.rank),
            "SLURM_LOCALID": str(world.rank),
            "SLURM_STEP_NUM_TASKS": str(world.size),
            "SLURM_STEP_NUM_NODES": "1",
            "SLURM_JOB_ID": str(os.getppid()),
            "SLURM_STEP_ID": "0",
        }
    )
    assert task is not None
    return twice(task)


def twice(world: World) -> list[float]:
    totals = []
    for _ in range(2):
        with joined(world):
            totals.append(total(world))
    return totals


if __name__ == "__main__":
    this = external_world()
    assert this is not None
    Path(sys.argv[1], f"{this.rank}").write_text(f"{this.size} {this.local_rank} {twice(this)}")

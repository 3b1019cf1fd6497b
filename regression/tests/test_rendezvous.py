"""Where a process that torchrun or Slurm has started finds its rank and the other ranks."""

import pytest
import torch

from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.world import World, external_world

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
STEP = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_JOB_ID": "700",
    "SLURM_STEP_ID": "3",
}
BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "700"}


@pytest.mark.parametrize(
    ("environ", "world"),
    [
        ({}, None),
        (BATCH_SCRIPT, None),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        (TORCHRUN, World(5, 8, 1, Device.CUDA, "env://")),
        (STEP, World(5, 8, 1, Device.CUDA, "tcp://127.0.0.1:21203")),
        (STEP | {"MASTER_ADDR": "n", "MASTER_PORT": "7"}, World(5, 8, 1, Device.CUDA, "tcp://n:7")),
        (STEP | TORCHRUN | {"SLURM_PROCID": "0"}, World(5, 8, 1, Device.CUDA, "env://")),
    ],
)
def test_the_environment_tells_the_world(environ: dict[str, str], world: World | None) -> None:
    assert external_world(Device.CUDA, environ) == world


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "MASTER_ADDR, MASTER_PORT are not"),
        (STEP | {"SLURM_STEP_NUM_NODES": "2"}, "several nodes needs MASTER_ADDR and MASTER_PORT"),
        (STEP | {"SLURM_STEP_NUM_NODES": "2", "MASTER_ADDR": "n"}, "needs MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_an_environment_without_a_meeting_place_is_refused(environ: dict[str, str], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        external_world(Device.CPU, environ)


@pytest.mark.parametrize(
    ("device", "gpus", "indexes"),
    [
        (Device.CUDA, 4, [0, 1, 2, 3]),
        (Device.CUDA, 1, [0, 0, 0, 0]),  # Slurm shows each rank its own GPU alone
        (Device.CUDA_SHARED, 1, [0, 0, 0, 0]),
        (Device.CUDA_SHARED, 2, [0, 1, 0, 1]),
    ],
)
def test_ranks_take_the_gpus_that_they_see_in_turns(
    monkeypatch: pytest.MonkeyPatch, device: Device, gpus: int, indexes: list[int]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [World(rank, 4, rank, device, "env://").gpu for rank in range(4)] == indexes


def test_a_rank_that_sees_no_gpu_says_so() -> None:
    with pytest.raises(RuntimeError, match="rank 1 of 2 sees no GPU"):
        _ = World(1, 2, 1, Device.CUDA, "env://").gpu


def test_nccl_is_for_a_gpu_each() -> None:
    assert [device.backend for device in Device] == ["gloo", "nccl", "gloo"]

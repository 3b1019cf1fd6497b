"""The parameters of each rank, and the conversion tasks by which a bridge would fill them, without weights.

A few processes build all ranks of a parallel layout one after another, on the meta device and with torch's
fake process groups, which know their ranks and send nothing. While a bridge makes its tasks, it asks other
ranks only for the names of the other pipeline stages' parameters, and adds tasks for them that fill nothing
on this rank. Those are missing here; a rank's own tasks do not depend on them.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the backend

import mtp_bridge_patch
from mtp_bridge_patch.upstream.mappings import keys_of
from mtp_regression.coverage.judgement import Parameter, RankParameters
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World, leave

ADAPTER = "mtp_regression.adapters.megatron_bridge"


def parameter_tasks(
    checkpoint: Path,
    parallel: Parallel,
    *,
    patched: bool,
    time_limit: float,
    log_folder: Path,
    processes: int | None = None,
) -> list[RankParameters]:
    """Build every rank of a parallel layout, and ask Megatron-Bridge for its conversion tasks.

    Args:
        checkpoint: Folder of a checkpoint; only its config and the names of its tensors are read.
        parallel: The parallel layout.
        patched: Whether `mtp_bridge_patch` is applied.
        time_limit: Seconds that all ranks together may take.
        log_folder: Folder for the processes' logs.
        processes: Number of processes that share the ranks; None takes one per core, but at most two, to
            save memory.

    Returns:
        The parameters of each rank, in rank order.

    Raises:
        PreloadError: Megatron-Bridge cannot be imported.
        RankError: A rank cannot be built, or the time limit was reached.
    """
    if processes is None:
        processes = min(2, len(os.sched_getaffinity(0)))
    shares = ranks.run(
        _share,
        *(checkpoint, parallel, patched),
        world_size=min(processes, parallel.ranks),
        time_limit=time_limit,
        log_folder=log_folder,
        preload=[ADAPTER],
    )
    found: list[RankParameters] = [rank for share in shares for rank in share]
    return sorted(found, key=lambda rank: rank.rank)


def _share(world: World, checkpoint: Path, parallel: Parallel, patched: bool) -> list[RankParameters]:
    """Build the ranks that one process is responsible for."""
    from mtp_regression.adapters import megatron_bridge  # imports Megatron

    leave(world)  # the group of the processes, once all have joined it; each rank makes its own
    if patched:
        mtp_bridge_patch.apply()
    bridge = cast(Any, megatron_bridge).AutoBridge
    auto = bridge.from_hf_pretrained(str(checkpoint), torch_dtype=torch.bfloat16)
    share = []
    for rank in range(world.rank, parallel.ranks, world.size):
        with _alone(rank, parallel.ranks):
            share.append(_build(auto, rank, parallel))
        gc.collect()
    return share


@contextmanager
def _alone(rank: int, size: int) -> Iterator[None]:
    """Make this process one rank of a fake group, in which `all_gather_object` returns its own object."""
    from megatron.core import parallel_state

    def gather(objects: list[Any], own: Any, group: Any = None) -> None:
        del group
        objects[:] = [own] * len(objects)

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        with mock.patch.object(dist, "all_gather_object", gather):
            yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def _build(auto: Any, rank: int, parallel: Parallel) -> RankParameters:
    from mtp_regression.megatron import model as megatron_model
    from mtp_regression.megatron.cpu import cuda_on_cpu

    megatron_model.initialize(parallel, gloo=False)
    provider = megatron_model.provider(auto, parallel)
    with cuda_on_cpu(), _Weightless():
        chunks = provider.provide_distributed_model(
            wrap_with_ddp=False, use_cpu_initialization=False, init_model_with_meta_device=True
        )
    parameters, strays = parameters_of(auto, chunks)
    return RankParameters(rank, megatron_model.coordinates(), parameters, strays)


class _Weightless(TorchFunctionMode):  # type: ignore[misc]
    """Puts every uninitialised tensor on the meta device, also where Megatron-Core names another device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        place = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **place})


def parameters_of(auto: Any, chunks: list[Any]) -> tuple[list[Parameter], int]:
    """Match a model's parameters on this rank with a bridge's conversion tasks.

    Args:
        auto: An `AutoBridge` of a checkpoint.
        chunks: The model chunks on this rank, `torch.nn.Module`s.

    Returns:
        The parameters, and the number of tasks that would fill a tensor which is not a parameter.
    """
    from megatron.bridge.models.conversion import model_bridge

    tasks = [task for task in auto.get_conversion_tasks(chunks) if task is not None]
    keys = {task.global_param_name: keys_of(task.mapping) for task in tasks}
    experts = {task.global_param_name: _expert(task.mapping) for task in tasks}
    # By identity, not by name: this is the tensor that a task fills, whatever it calls it.
    fills = Counter(id(task.param_weight) for task in tasks if task.megatron_module is not None)

    models = model_bridge.unwrap_model(chunks)
    config = models[0].config
    tied = getattr(config, "share_embeddings_and_output_weights", False)
    parameters = []
    for stage, model in enumerate(models):
        for local_name, parameter in model.named_parameters():
            filled = fills.pop(id(parameter), 0)
            if tied and "output_layer" in local_name:
                continue  # it is the embedding
            name = model_bridge._megatron_local_name_to_global(models, config, local_name, stage)
            parameters.append(Parameter(name, filled, keys.get(name), experts.get(name)))
    return parameters, sum(fills.values())


def _expert(mapping: Any) -> int | None:
    """Return which expert's slice of a packed tensor a mapping reads; None if it reads whole tensors."""
    from megatron.bridge.utils.common_utils import extract_expert_number_from_param

    if not getattr(mapping, "is_grouped_export", False):
        return None
    return int(extract_expert_number_from_param(mapping.megatron_param))  # as the mapping itself does

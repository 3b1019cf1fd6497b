"""Loads, exports and saves in which one rank fails, which test_mtp_errors_together has run on ranks."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mtp_bridge_patch.upstream import conversion
from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World

Told = tuple[str, str, list[str]]
"""Class, text and notes of what a rank has raised."""


def load(world: World, checkpoint: str, parallel: str, failure: str, rank: int) -> tuple[Told, Told]:
    """Load a checkpoint with a failure on one rank, then another time without.

    Returns:
        What the rank has raised in each load.
    """
    with _failing(failure if world.rank == rank else ""):
        first = _told(lambda: _loaded(checkpoint, parallel).close())
    return first, _told(lambda: _loaded(checkpoint, parallel).close())


def export(world: World, checkpoint: str, parallel: str, failure: str, rank: int) -> tuple[Told, Told]:
    """Load a checkpoint, then export it with a failure on one rank, then another time without.

    Returns:
        What the rank has raised in each export.
    """
    bridge = _loaded(checkpoint, parallel)
    with _failing(failure if world.rank == rank else ""):
        first = _told(lambda: _exhaust(bridge.stream()))
    second = _told(lambda: _exhaust(bridge.stream()))
    bridge.close()
    return first, second


def save(
    world: World,
    checkpoint: str,
    parallel: str,
    folder: str,
    failure: str,
    rank: int,
    options: dict[str, Any],
) -> tuple[Told, Told]:
    """Load a checkpoint, then save it with a failure on one rank, then another time without.

    Returns:
        What the rank has raised in each save.
    """
    bridge = _loaded(checkpoint, parallel)
    with _failing(failure if world.rank == rank else ""):
        first = _told(lambda: bridge.save(Path(folder, "first"), **options))
    second = _told(lambda: bridge.save(Path(folder, "second"), **options))
    bridge.close()
    return first, second


def _loaded(checkpoint: str, parallel: str) -> Used:
    from mtp_regression.adapters.megatron_bridge import PatchedMegatronBridge

    bridge = Used(PatchedMegatronBridge())
    try:
        bridge.begin(Path(checkpoint), Parallel.parse(parallel))
    except BaseException:
        bridge.close()
        raise
    return bridge


def _exhaust(weights: Iterator[Any]) -> None:
    for _ in weights:
        pass


def _told(action: Callable[[], None]) -> Told:
    try:
        action()
    except Exception as error:
        told = type(error).__name__, str(error), list(getattr(error, "__notes__", []))
    else:
        told = "", "", []
    importlib.import_module("torch.distributed").barrier()  # no rank is anywhere else
    return told


@contextmanager
def _failing(failure: str) -> Iterator[None]:
    """Have something fail in this process."""
    safetensors = importlib.import_module("safetensors.torch")
    state = importlib.import_module("megatron.bridge.models.hf_pretrained.state")
    mappings = importlib.import_module("megatron.bridge.models.conversion.param_mapping")
    bridges = importlib.import_module("megatron.bridge.models.conversion.model_bridge")
    base = importlib.import_module("megatron.bridge.models.hf_pretrained.base")
    source = state.SafeTensorsStateSource
    places: dict[str, Callable[[], Any]] = {
        "": lambda: mock.patch.object(state, "nothing", create=True),
        "headers": lambda: mock.patch.object(
            conversion, "read_checkpoint", _raise(OSError(errno.EIO, "gone"))
        ),
        "shard": lambda: mock.patch.object(source, "load_tensors", _after(9, source.load_tensors)),
        "shape": lambda: mock.patch.object(
            mappings.ColumnParallelMapping,
            "hf_to_megatron",
            _after(3, mappings.ColumnParallelMapping.hf_to_megatron),
        ),
        "tasks": lambda: mock.patch.object(
            bridges, "WeightConversionTask", _after(4, bridges.WeightConversionTask)
        ),
        "column": lambda: mock.patch.object(
            mappings.ColumnParallelMapping,
            "megatron_to_hf",
            _after(3, mappings.ColumnParallelMapping.megatron_to_hf),
        ),
        "gathered": lambda: mock.patch.object(
            mappings.RowParallelMapping,
            "megatron_to_hf",
            _after(2, mappings.RowParallelMapping.megatron_to_hf, called=True),
        ),
        "changed": lambda: mock.patch.object(
            bridges.MegatronModelBridge,
            "maybe_modify_converted_hf_weight",
            _after(5, bridges.MegatronModelBridge.maybe_modify_converted_hf_weight),
        ),
        "artifacts": lambda: mock.patch.object(
            base.PreTrainedBase, "save_artifacts", _raise(PermissionError(errno.EACCES, "not yours"))
        ),
        "disk": lambda: mock.patch.object(safetensors, "save_file", _after(1, safetensors.save_file)),
        "index": lambda: mock.patch.object(state.json, "dump", _raise(OSError(errno.ENOSPC, "full"))),
    }
    with places[failure]():
        yield


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return fail


def _after(calls: int, upstream: Callable[..., Any], *, called: bool = False) -> Callable[..., Any]:
    """Return a function that fails after a number of calls, before or after it has been called once more."""
    made = iter(range(calls))

    def function(*args: Any, **kwargs: Any) -> Any:
        if next(made, None) is None:
            if called:
                upstream(*args, **kwargs)
            raise OSError(errno.ENOSPC, "no more")
        return upstream(*args, **kwargs)

    return function

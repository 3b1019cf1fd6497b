"""Lets Megatron-Core build, fill and save modules, and checkpoints, and scripts run, without a GPU."""

from __future__ import annotations

import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from queue import Queue
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

_gpu_is_there = torch.cuda.is_available
"""What torch itself says, whatever it is made to answer below."""


@contextmanager
def cuda_on_cpu() -> Iterator[None]:
    """Make `torch.cuda` answer as if there were a GPU, and put tensors that ask for one on the CPU.

    Use it around construction, loading and saving only: code that runs inside believes that there is a GPU.
    Everything is restored at the end, also after an error. On a machine with a GPU it does nothing.

    transformers must have been imported before: one of its annotations evaluates
    `torch.cuda.Stream | None`, which needs the real class.
    """
    if torch.cuda.is_available():
        yield
        return
    with _answering(_THERE_IS_ONE), _CpuForCuda():
        yield


_THERE_IS_ONE: Mapping[str, Callable[..., object]] = {
    "is_available": lambda: True,
    "current_device": lambda: torch.device("cpu"),
    "get_device_capability": lambda device=None: (9, 0),  # noqa: ARG005 - torch's own signature
    "Stream": lambda *_args, **_kwargs: None,
}


@contextmanager
def _answering(answers: Mapping[str, object]) -> Iterator[None]:
    """Put answers in the place of functions and classes of `torch.cuda`.

    It is entered for every parameter that a bridge gives: `unittest.mock` takes ten times as long.
    """
    theirs = {name: getattr(torch.cuda, name) for name in answers}
    try:
        for name, answer in answers.items():
            setattr(torch.cuda, name, answer)
        yield
    finally:
        for name, own in theirs.items():
            setattr(torch.cuda, name, own)


@contextmanager
def checkpointing_on_cpu() -> Iterator[None]:
    """Answer also what Megatron asks of CUDA while it saves and loads its own checkpoints.

    Like `cuda_on_cpu`, in which it may be, it does nothing on a machine with a GPU.
    """
    if _gpu_is_there():
        yield
        return
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    answers: dict[str, Callable[..., object]] = {
        "get_rng_state": lambda *_args: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_args: None,
        "synchronize": lambda *_args: None,
        "empty_cache": lambda: None,
    }
    # The writer is a thread of this process: upstream starts an interpreter for a queue to it, 5 seconds.
    with mock.patch.object(filesystem_async, "_results_queue", Queue()), _answering(answers), cuda_on_cpu():
        yield


class Nothing:
    """A stream or event of CUDA that has nothing to wait for."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_kwargs: self


@contextmanager
def streams_on_cpu() -> Iterator[None]:
    """Answer what is asked of CUDA's streams, events and profiler."""
    answers = {
        "current_stream": Nothing,
        "default_stream": Nothing,
        "Stream": Nothing,
        "stream": lambda *_args: nullcontext(),
        "set_stream": lambda *_args: None,
        "Event": Nothing,
        "synchronize": lambda *_args: None,
    }
    with ExitStack() as stack:
        stack.enter_context(_answering(answers))
        for name in ("range_push", "range_pop"):
            stack.enter_context(mock.patch.object(torch.cuda.nvtx, name))
        yield


@contextmanager
def scripts_on_cpu() -> Iterator[None]:
    """Answer all that a script which converts asks of CUDA from its start to its end, and NCCL by gloo.

    Beside what `cuda_on_cpu` and `streams_on_cpu` answer: each local rank has a GPU with the memory of this
    machine, none of it taken, whose random states are the CPU's; tensors in files come to the CPU. Like
    `cuda_on_cpu` it does nothing on a machine with a GPU, and takes tensors to the CPU in this thread alone.
    """
    if torch.cuda.is_available():
        yield
        return
    with ExitStack() as stack:
        for context in (cuda_on_cpu(), streams_on_cpu(), _answering(_device()), _answering(_random_states())):
            stack.enter_context(context)
        for name in ("init_process_group", "new_group"):
            answer = _with_gloo(getattr(torch.distributed, name))
            for module in ("", ".distributed_c10d", ".device_mesh"):
                stack.enter_context(mock.patch(f"torch.distributed{module}.{name}", answer))
        # The readers of a file's tensors: the first that takes a location wins.
        readers = [(0, lambda _storage: None, _to_cpu), *torch.serialization._package_registry]
        stack.enter_context(mock.patch.object(torch.serialization, "_package_registry", readers))
        # `with torch.device("cuda")` is asked after `cuda_on_cpu`, whenever it was entered.
        stack.enter_context(mock.patch.object(DeviceContext, "__init__", _on_cpu(DeviceContext.__init__)))
        yield


def _device() -> dict[str, object]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    properties = SimpleNamespace(
        name="CPU", major=9, minor=0, total_memory=memory, multi_processor_count=os.cpu_count()
    )
    answers: dict[str, object] = {
        "current_device": lambda: 0,
        "device_count": lambda: int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "device": lambda *_args: nullcontext(),
        "get_device_name": lambda *_args: properties.name,
        "get_device_properties": lambda *_args: properties,
        "is_bf16_supported": lambda *_args: True,
        "mem_get_info": lambda *_args: (memory, memory),
        "memory_stats": lambda *_args: defaultdict(int),
        "memory_summary": lambda *_args, **_kwargs: "",
    }
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
        answers[name] = lambda *_args: 0
    for name in ("init", "set_device", "empty_cache", "ipc_collect", "reset_peak_memory_stats"):
        answers[name] = lambda *_args: None
    return answers


def _random_states() -> dict[str, object]:
    def seed(number: int) -> None:
        torch.default_generator.manual_seed(int(number))  # torch.manual_seed would come back here

    return {
        "default_generators": (torch.default_generator,),
        "get_rng_state": lambda *_args: torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "initial_seed": torch.initial_seed,
        "manual_seed": seed,
        "manual_seed_all": seed,
        "set_rng_state": lambda state, *_args: torch.set_rng_state(state),
        "set_rng_state_all": lambda states: torch.set_rng_state(states[0]),
    }


def _with_gloo(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that makes a process group make one of gloo, and leave out what only NCCL takes."""

    @wraps(function)
    def made(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(function).bind(*args, **kwargs)
        if "nccl" in (given.arguments.get("backend") or "nccl"):
            given.arguments["backend"] = "gloo"
            for name in ("pg_options", "device_id"):
                given.arguments.pop(name, None)
        return function(*given.args, **given.kwargs)

    return made


def _to_cpu(storage: Any, location: str) -> Any:
    return storage if _is_gpu(location) else None


def _on_cpu(function: Callable[..., None]) -> Callable[..., None]:
    return lambda this, device: function(this, "cpu" if _is_gpu(device) else device)


class _CpuForCuda(TorchFunctionMode):
    """Rewrites the device of every torch call that names a GPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if func is torch.Tensor.to:
            args = tuple("cpu" if _is_gpu(argument) else argument for argument in args)
        if not kwargs:  # as most calls are
            return func(*args)
        if _is_gpu(kwargs.get("device")):
            kwargs = kwargs | {"device": "cpu"}
        if kwargs.get("pin_memory"):  # for a faster way to a GPU
            kwargs = kwargs | {"pin_memory": False}
        return func(*args, **kwargs)


def _is_gpu(device: object) -> bool:
    # Megatron gives a GPU as a device, as "cuda" or "cuda:0", or as its bare number.
    if isinstance(device, int):
        return not isinstance(device, bool)
    return isinstance(device, str | torch.device) and str(device).startswith("cuda")

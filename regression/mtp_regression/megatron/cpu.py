"""Lets Megatron-Core build, fill and save modules, and checkpoints, on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import Queue
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode


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
    answers: dict[str, Callable[..., object]] = {
        "is_available": lambda: True,
        "current_device": lambda: torch.device("cpu"),
        "get_device_capability": lambda device=None: (9, 0),  # noqa: ARG005 - torch's own signature
        "Stream": lambda *_args, **_kwargs: None,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(_CpuForCuda())
        yield


@contextmanager
def checkpointing_on_cpu() -> Iterator[None]:
    """Answer also what Megatron asks of CUDA while it saves and loads its own checkpoints.

    Like `cuda_on_cpu` it does nothing on a machine with a GPU.
    """
    if torch.cuda.is_available():
        yield
        return
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    answers: dict[str, Callable[..., object]] = {
        "get_rng_state": lambda *_args: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_args: None,
        "synchronize": lambda *_args: None,
        "empty_cache": lambda: None,
    }
    with ExitStack() as stack:
        # The writer is a thread of this process: upstream starts an interpreter for a queue to it, 5 seconds.
        stack.enter_context(mock.patch.object(filesystem_async, "_results_queue", Queue()))
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(cuda_on_cpu())
        yield


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
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return args[0]
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = "cpu"
        if kwargs.get("pin_memory"):  # for a faster way to a GPU
            kwargs["pin_memory"] = False
        if func is torch.Tensor.to:
            args = tuple("cpu" if _is_gpu(argument) else argument for argument in args)
        return func(*args, **kwargs)


def _is_gpu(device: object) -> bool:
    # Megatron gives a GPU as a device, as "cuda" or "cuda:0", or as its bare number.
    if isinstance(device, int):
        return not isinstance(device, bool)
    return isinstance(device, str | torch.device) and str(device).startswith("cuda")

"""What transformers' modules are given and give, while they compute."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn


@contextmanager
def returned(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Give what a module returns."""
    found: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def margins(modules: Iterable[nn.Module], text: Any) -> Iterator[list[torch.Tensor]]:
    """Give by how much each router's last chosen expert beats the next, of the scores' spread, by token."""
    found: list[torch.Tensor] = []

    def note(router: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        scores = inputs[0].reshape(-1, router.weight.shape[1]) @ router.weight.t()
        chosen = scores.sort(dim=-1, descending=True).values[:, text.num_experts_per_tok - 1 :]
        found.append((chosen[:, 0] - chosen[:, 1]) / scores.std())

    routers = [module.gate for module in modules if hasattr(module, "gate") and hasattr(module, "experts")]
    handles = [router.register_forward_pre_hook(note) for router in routers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def positions(decoder: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Give the positions that the rotary embedding is asked for: with images, transformers makes them."""
    found: list[torch.Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        found.append(named["position_ids"] if "position_ids" in named else inputs[1])

    handle = decoder.rotary_emb.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def in_torch(module: ModuleType) -> Iterator[None]:
    """Have a module of transformers compute in torch alone.

    Since 5.17 it takes the kernels of fla where that is installed, on a CPU too, which they do not run on.
    """
    own = {
        name: inspect.unwrap(function)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
    }
    with mock.patch.multiple(module, **own):
        yield

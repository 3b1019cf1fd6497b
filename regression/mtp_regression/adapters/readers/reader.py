"""The common half of readers: engines that load checkpoints and write none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import torch

from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.tensors import Tensors, read_folder
from mtp_regression.ranks.parallel import Parallel

JOINED = MappingProxyType(
    {
        "qkv_proj": ("q_proj", "k_proj", "v_proj"),
        "gate_up_proj": ("gate_proj", "up_proj"),
        "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
        "in_proj_ba": ("in_proj_b", "in_proj_a"),
    }
)
"""Projections that vLLM and SGLang hold in one tensor, one's rows after another's."""

_STACKED = re.compile(r"(?P<layer>.*\.experts\.)(routed_experts\.)?w(?P<which>13|2)_(?P<what>.+)")


class Reader:
    """What an adapter of a reader does not have to write.

    An engine holds tensors in other shapes: projections joined, experts stacked. `stream` takes them apart
    again, and gives them in the shapes of the checkpoint: so the suite compares what the engine holds with
    what it has read. Values count and not dtypes: a tensor that the engine holds in another dtype comes back
    in the checkpoint's, rounded if it does not fit.
    """

    engine = "none"
    grid: ClassVar[Sequence[Parallel]] = (Parallel(),)
    joined: ClassVar[Mapping[str, Sequence[str]]] = JOINED

    model: torch.nn.Module

    _stored: Tensors

    def load(self, checkpoint: Path) -> None:
        """Hand the engine's models the tensors of a checkpoint, those of `read`."""
        raise NotImplementedError

    def reload(self, checkpoint: Path) -> None:
        """Hand them another checkpoint's."""
        self.load(checkpoint)

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the engine's tensors, by a checkpoint's keys but for what is joined or stacked."""
        raise NotImplementedError

    def parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters of the engine's models."""
        for name, parameter in self.model.named_parameters():
            yield f"0/{name}", parameter

    def held(self, names: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters by other names, rows apart that pad a vocabulary; of alike copies the first.

        Args:
            names: What a name begins with, and what is put in its place; the first that fits is taken.
        """
        seen: dict[str, torch.Tensor] = {}
        for name, parameter in self.model.named_parameters():
            module = self.model.get_submodule(name.rpartition(".")[0])
            tensor = parameter.data[: getattr(module, "org_vocab_size", None)]
            old, new = next((old, new) for old, new in names.items() if name.startswith(old))
            key = new + name.removeprefix(old)
            if key not in seen or not torch.equal(seen[key], tensor):
                yield (name if key in seen else key), tensor
            seen.setdefault(key, tensor)

    def read(self, checkpoint: Path) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the checkpoint's tensors, to be given to the engine; `stream` is to have its format."""
        self._stored = read_folder(checkpoint)
        for key, tensor in self._stored.items():
            yield key, tensor.to_torch().clone()

    def stream(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield what the engine holds, in the checkpoint's format, and then what has no place there."""
        apart = {key: tensor for name, whole in self.named() for key, tensor in self._apart(name, whole)}
        for key, stored in self._stored.items():
            parts = [part for part, _ in split_packed(key, stored.shape) or [(key, stored.shape)]]
            if all(part in apart for part in parts):
                tensors = [apart.pop(part) for part in parts]
                whole = tensors[0] if parts == [key] else torch.cat([each.flatten() for each in tensors])
                shape = whole.shape if parts == [key] else stored.shape
                yield key, whole.reshape(shape).to(stored.to_torch().dtype)
        yield from apart.items()

    def _apart(self, name: str, whole: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the checkpoint's tensors, experts one by one, that a tensor of the engine holds."""
        if match := _STACKED.fullmatch(name):
            projections = ("gate_proj", "up_proj") if match["which"] == "13" else ("down_proj",)
            for expert, matrix in enumerate(whole):
                for projection, rows in zip(projections, matrix.chunk(len(projections)), strict=True):
                    yield f"{match['layer']}{expert}.{projection}.{match['what']}", rows
            return
        above, _, last = name.rpartition(".")
        head, _, module = above.rpartition(".")
        keys = [f"{head}.{part}.{last}" for part in self.joined.get(module, [module])]
        rows = [self._stored[key].shape[0] for key in keys if key in self._stored and len(keys) > 1]
        if len(rows) == len(keys) and sum(rows) == len(whole):
            yield from zip(keys, whole.split(rows), strict=True)
        else:
            yield name, whole

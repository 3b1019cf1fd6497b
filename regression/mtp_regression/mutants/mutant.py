"""A mutant: a bridge with one mistake, made on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec, preset, write_faulty
from mtp_regression.in_memory.conversions import Array
from mtp_regression.stages.case import Stage

Stream = Iterable[tuple[str, Array]]
"""Keys and arrays, as a bridge exports them."""

MOE, MOE_PER_EXPERT, MOE_FP8 = "qwen3.6-35b-a3b", "qwen3.5-35b-a3b", "qwen3.6-35b-a3b-fp8"
DENSE, TIED, FUSED = "qwen3.6-27b", "qwen3.5-0.8b", "qwen3-next-80b-a3b"


@dataclass(frozen=True)
class Changed:
    """A change of what a bridge exports, whatever bridge it is.

    Attributes:
        tensors: Makes what is exported of what should be: from the same tensors the same on all ranks.
    """

    tensors: Callable[[Stream], Iterator[tuple[str, Array]]]


Change = type | Changed
"""A mistake: what replaces methods and attributes of the in-memory bridge, or what changes an export."""


@dataclass(frozen=True)
class Mutant:
    """A bridge with one mistake, and what is to see it.

    Attributes:
        name: Its name.
        about: What it does, as a sentence.
        report: The report that it stands for; empty if it stands for none.
        change: The mistake.
        seen_by: The stages that must see it; no other may.
        origin: What the sentence on a wrong tensor must have; empty where no tensor has wrong values.
        model: The preset of the checkpoint that shows it.
        layout: The parallel layout that shows it.
        options: What else the checkpoint is: fields of `CheckpointSpec`, or a `fault`.
        layers: The decoder's layers, L for linear and F for full attention; empty for the preset's.
    """

    name: str
    about: str
    report: str
    change: Change
    seen_by: tuple[Stage, ...]
    origin: str = ""
    model: str = TIED
    layout: str = "tp1"
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: str = "LF"

    @property
    def of_any_bridge(self) -> bool:
        """Whether the mistake is in what is exported alone, so that any bridge can make it."""
        return isinstance(self.change, Changed)

    @property
    def checkpoint(self) -> tuple[Any, ...]:
        """What tells its checkpoint from others'."""
        return self.model, self.layers, *sorted(self.options.items())

    @property
    def shown_by(self) -> str:
        """The checkpoint and the layout that show it, in words."""
        layers = {"layers": self.layers} if self.layers else {}
        options = "".join(f", {name} {value}" for name, value in {**layers, **self.options}.items())
        return f"{self.model}{options}; {self.layout}"

    def write(self, folder: Path) -> Path:
        """Write its checkpoint into a folder that does not exist; returns that, or one inside it."""
        options = dict(self.options)
        fault = options.pop("fault", "")
        spec = CheckpointSpec(preset(self.model), layer_types=self.layers or None, **options)
        return write_faulty(spec, fault, folder) if fault else spec.write(folder)

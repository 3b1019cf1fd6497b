"""Models that the oracle fills, and no bridge: as it is, and mistaken in one thing.

Each is an adapter in processes of its own: what is changed in the oracle is not put back.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mtp_regression.adapters.megatron_bridge import MegatronBridge
from mtp_regression.adapters.variants import SequentialExperts
from mtp_regression.comparison.tensors import Tensors, read_folder
from mtp_regression.oracle import layers, parameters, vision
from mtp_regression.oracle.fill import fill
from mtp_regression.oracle.placement import Placement
from mtp_regression.oracle.recipes import Recipe, Recipes
from mtp_regression.oracle.shards import Array, Share, interleave_groups, split_output_gate
from mtp_regression.oracle.source import Source
from mtp_regression.ranks.parallel import Parallel


class Grouped(MegatronBridge):
    """A rank's routed experts in one module."""

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        self.parallel = parallel
        return super().build(checkpoint, parallel)

    def load(self, checkpoint: Path) -> None:
        """Fill the model."""
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        tensors, rank = self.read(checkpoint), self.coordinates()
        fill(parameters.native_parameters(tensors, config, self.parallel, rank), self.parameters())

    def read(self, checkpoint: Path) -> Tensors:
        """Read what the oracle goes by."""
        return read_folder(checkpoint)


class Sequential(Grouped, SequentialExperts):
    """A rank's routed experts in a module each."""


class Exchanged(Grouped):
    """Takes the tensors of one name for those of another."""

    names: ClassVar[tuple[str, str]]

    def read(self, checkpoint: Path) -> Tensors:
        one, other = self.names
        swapped = {one: other, other: one}
        return {
            ".".join(swapped.get(part, part) for part in key.split(".")): tensor
            for key, tensor in super().read(checkpoint).items()
        }


class Mistaken(Grouped):
    """Has another function in the oracle."""

    place: ClassVar[tuple[Any, str]]
    function: ClassVar[Callable[..., Any]]

    def load(self, checkpoint: Path) -> None:
        setattr(*self.place, type(self).function)
        super().load(checkpoint)


_gate_and_up, _ends_of_mtp = Source.gate_and_up, parameters._mtp_inputs_and_norm


def _up_before_gate(source: Source, *which: Any) -> list[Array]:
    return _gate_and_up(source, *which)[::-1]


def _in_mtp(suffix: str, change: Callable[[Recipe], Recipe | None]) -> Callable[..., Recipes]:
    """Change what a parameter beside MTP's layer gets, or leave it out."""

    def changed(*arguments: Any) -> Recipes:
        for name, recipe in _ends_of_mtp(*arguments):
            found = change(recipe) if name == suffix else recipe
            if found is not None:
                yield name, found

    return changed


def _halves(recipe: Recipe) -> Recipe:
    return lambda: np.concatenate(np.split(recipe(), 2, axis=1)[::-1], axis=1)


def _rows_of_all_parts(share: Share, *parts: Array) -> Array:
    return np.split(np.concatenate(parts), share.count)[share.index]


def _other_ranks_experts(placement: Placement) -> range:
    count = placement.text.mlp.num_experts // placement.parallel.ep  # type: ignore[union-attr]
    first = (placement.parallel.ep - 1 - placement.rank.ep) * count
    return range(first, first + count)


EXCHANGED = {
    "GateAsUp": ("gate_proj", "up_proj"),
    "KeyAsValue": ("k_proj", "v_proj"),
    "KeyNormAsQueryNorm": ("k_norm", "q_norm"),
    "AlphaAsBeta": ("in_proj_a", "in_proj_b"),
    "DecayAsBias": ("A_log", "dt_bias"),
    "NormBeforeAsAfter": ("input_layernorm", "post_attention_layernorm"),
    "MtpNorms": ("pre_fc_norm_embedding", "pre_fc_norm_hidden"),
}
MISTAKEN: dict[str, tuple[tuple[Any, str], Any]] = {
    "PackedGateAsUp": ((Source, "gate_and_up"), _up_before_gate),
    "GateAsQuery": ((layers, "split_output_gate"), lambda *query: split_output_gate(*query)[::-1]),
    "GroupsApart": ((layers, "interleave_groups"), lambda _groups, *parts: np.concatenate(parts)),
    "VisionHeadsApart": ((vision, "interleave_groups"), lambda _heads, *parts: np.concatenate(parts)),
    "VisionKeyAsValue": (
        (vision, "interleave_groups"),
        lambda heads, query, key, value: interleave_groups(heads, query, value, key),
    ),
    "NormNotCentred": ((Source, "zero_centred"), Source.weight),
    "MtpHalves": ((parameters, "_mtp_inputs_and_norm"), _in_mtp("eh_proj.weight", _halves)),
    "NoMtpNorm": ((parameters, "_mtp_inputs_and_norm"), _in_mtp("final_layernorm.weight", lambda _: None)),
    "RowsOfAllParts": ((Share, "column_parallel"), _rows_of_all_parts),
    "OtherRanksExperts": ((Placement, "experts"), property(_other_ranks_experts)),
}


def __getattr__(name: str) -> type[Grouped]:
    """Make the adapter of a mistake."""
    if name in EXCHANGED:
        return type(name, (Exchanged,), {"names": EXCHANGED[name]})
    if name in MISTAKEN:
        place, function = MISTAKEN[name]
        return type(name, (Mistaken,), {"place": place, "function": function})
    raise AttributeError(name)

"""The keys of routed experts, sorted by layer, expert and projection; no tensor is read."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count, islice

from mtp_bridge_patch.expert_layout import PACKED_TENSORS, PROJECTIONS, SCALE_SUFFIX, ExpertLayout
from mtp_bridge_patch.untrusted import shown

_SHOWN = 3  # keys of a problem

_EXPERTS = ".mlp.experts."
_HEAD = re.compile(r"(?:(?P<prefix>.*)\.)?layers\.(?P<layer>[0-9]{1,9})", re.DOTALL)
_TAIL = re.compile(
    r"(?P<packed>gate_up_proj|down_proj)"
    r"|(?P<expert>[0-9]{1,9})\.(?P<projection>gate|up|down)_proj\.weight"
    rf"(?P<scale>{SCALE_SUFFIX})?"
)
_MTP_LAYER = re.compile(r"(?:.*\.)?mtp\.layers\.([0-9]{1,9})\.", re.DOTALL)


class Block(StrEnum):
    """The part of a model that layers are numbered in."""

    DECODER = "decoder"
    MTP = "MTP"


@dataclass(frozen=True)
class Layer:
    """One layer of the decoder or of the MTP block; as text, what a message calls it."""

    block: Block
    number: int

    def __lt__(self, other: "Layer") -> bool:
        """Order the decoder's layers before those of the MTP block."""
        return (self.block is Block.MTP, self.number) < (other.block is Block.MTP, other.number)

    def __str__(self) -> str:
        return f"{self.block} layer {self.number}"


@dataclass
class LayerExperts:
    """The keys of one layer's routed experts.

    Attributes:
        prefix: What stands before `gate_up_proj` or an expert's number in every key.
        packed: Packed tensors that are there.
        single: Projections of each expert that is stored by itself.
        scales: Projections of each expert that have a `weight_scale_inv`.
    """

    prefix: str
    packed: set[str] = field(default_factory=set)
    single: dict[int, set[str]] = field(default_factory=dict)
    scales: dict[int, set[str]] = field(default_factory=dict)

    @property
    def layouts(self) -> list[ExpertLayout]:
        """The layouts of which there are keys; more than one is an error."""
        found = [ExpertLayout.PACKED] if self.packed else []
        if self.single or self.scales:
            found.append(ExpertLayout.FP8_PER_EXPERT if self.scales else ExpertLayout.PER_EXPERT)
        return found

    @property
    def layout(self) -> ExpertLayout:
        """The layout, ABSENT if there is none, the first if there are two."""
        return next(iter(self.layouts), ExpertLayout.ABSENT)

    def key(self, expert: int, projection: str, suffix: str = "") -> str:
        """Return the key of one expert's projection."""
        return f"{self.prefix}{expert}.{projection}_proj.weight{suffix}"

    def problems(self, experts: int | None) -> Iterator[str]:
        """Say what the keys contradict each other in.

        Args:
            experts: How many there should be; None if the config does not say.
        """
        if len(self.layouts) > 1:
            packed = sorted(self.prefix + name for name in self.packed)
            single = [self.key(expert, name) for expert in sorted(self.single) for name in PROJECTIONS]
            yield f"both layouts: {listed(packed)} packed, and {listed(single)} per expert"
        if self.packed and (missing := [name for name in PACKED_TENSORS if name not in self.packed]):
            yield f"half of a packed pair: {listed([self.prefix + name for name in missing])} missing"
        if self.single or self.scales:
            yield from self._single_problems(experts)

    def _single_problems(self, experts: int | None) -> Iterator[str]:
        present = self.single.keys() | self.scales.keys()
        expected = experts if experts is not None else max(present) + 1
        if absent := expected - sum(expert < expected for expert in present):
            # Numbers may be anything: only the first few of a billion are looked for.
            first = list(
                islice((expert for expert in count(0) if expert not in present), min(absent, _SHOWN))
            )
            keys = [self.key(expert, projection) for expert in first for projection in PROJECTIONS]
            yield f"{_experts(first, absent)} missing of {expected}: {listed(keys, 3 * absent)}"
        if beyond := sorted(expert for expert in present if expert >= expected):
            keys = [self.key(expert, name) for expert in beyond for name in PROJECTIONS]
            yield f"{_experts(beyond, len(beyond))} beyond the {expected} of config.json: {listed(keys)}"
        lacking = [
            self.key(expert, name)
            for expert in sorted(present)
            for name in PROJECTIONS
            if name not in self.single.get(expert, ())
        ]
        if lacking:
            yield f"projections missing: {listed(lacking)}"
        if self.scales:
            bare = [
                self.key(expert, name, SCALE_SUFFIX)
                for expert in sorted(self.single)
                for name in PROJECTIONS
                if name in self.single[expert] and name not in self.scales.get(expert, ())
            ]
            if bare:
                yield f"scales missing: {listed(bare)}"


@dataclass
class ExpertKeys:
    """What the keys of a checkpoint say of its routed experts.

    Attributes:
        layers: The keys of each layer that has some.
        mtp_layers: Numbers of all MTP layers, with routed experts or without.
        has_mtp: Whether there is any MTP key.
    """

    layers: dict[Layer, LayerExperts] = field(default_factory=dict)
    mtp_layers: set[int] = field(default_factory=set)
    has_mtp: bool = False

    @classmethod
    def of(cls, keys: Iterable[str]) -> "ExpertKeys":
        """Sort the keys of a checkpoint; takes time linear in their number."""
        found = cls()
        # Heads and tails repeat: each is looked at once, and a key is two lookups.
        heads: dict[str, LayerExperts | None] = {}
        tails: dict[str, tuple[str, int, str, bool] | None] = {}
        for key in keys:
            if "mtp." in key:
                found._add_mtp(key)
            head, between, tail = key.partition(_EXPERTS)
            if not between:
                continue
            if head not in heads:
                heads[head] = found._layer(head)
            if tail not in tails:
                tails[tail] = _parse_tail(tail)
            layer, place = heads[head], tails[tail]
            if layer is None or place is None:
                continue
            packed, expert, projection, is_scale = place
            if packed:
                layer.packed.add(packed)
            else:
                (layer.scales if is_scale else layer.single).setdefault(expert, set()).add(projection)
        return found

    def _add_mtp(self, key: str) -> None:
        if match := _MTP_LAYER.match(key):
            self.mtp_layers.add(int(match[1]))
            self.has_mtp = True
        elif key.startswith("mtp.") or ".mtp." in key:
            self.has_mtp = True

    def _layer(self, head: str) -> LayerExperts | None:
        match = _HEAD.fullmatch(head)
        if match is None:
            return None
        prefix = match["prefix"] or ""
        block = Block.MTP if prefix == "mtp" or prefix.endswith(".mtp") else Block.DECODER
        return self.layers.setdefault(Layer(block, int(match["layer"])), LayerExperts(head + _EXPERTS))


def listed(keys: Sequence[str], total: int | None = None) -> str:
    """Count keys and show the first few.

    Args:
        keys: The first keys, or all.
        total: How many there are; None if `keys` are all.
    """
    total = len(keys) if total is None else total
    more = f" and {total - _SHOWN} more" if total > _SHOWN else ""
    return f"{total} {'key' if total == 1 else 'keys'} ({', '.join(map(shown, keys[:_SHOWN]))}{more})"


def _experts(numbers: Sequence[int], total: int) -> str:
    if total == 1:
        return f"expert {numbers[0]}"
    more = ", ..." if total > _SHOWN else ""
    return f"{total} experts ({', '.join(map(str, numbers[:_SHOWN]))}{more})"


def _parse_tail(tail: str) -> tuple[str, int, str, bool] | None:
    """Return packed name, or expert, projection and whether it is a scale; None for another tensor."""
    match = _TAIL.fullmatch(tail)
    if match is None:
        return None
    if match["packed"]:
        return match["packed"], 0, "", False
    return "", int(match["expert"]), match["projection"], match["scale"] is not None

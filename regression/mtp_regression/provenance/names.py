"""Which parts a tensor has, by its name: a checkpoint's key, or the name of a parameter of Megatron-Core.

`oracle.layers` and `oracle.vision` say where the orders of rows come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mtp_checkpoint.layouts.expert_layout import joined
from mtp_checkpoint.layouts.keys import VISION_PREFIX, Place, parse
from mtp_fixtures.model.geometry import TextGeometry
from mtp_regression.provenance.parts import Parts, by_group, one_by_one

_FUSED: Sequence[Sequence[str]] = (
    ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    *(
        tuple(f"linear_attn.in_proj_{name}.weight" for name in names)
        for names in (("qkv", "z", "b", "a"), ("qkvz", "ba"))
    ),
    ("gate_proj.weight", "up_proj.weight"),
)
"""Ends of the names of tensors that Megatron-Core has as one, in the order in which they are stacked."""
_GATED = re.compile(r"mlp\.(.*\.)?linear_fc1\.weight\d*$")
_HALVES = re.compile(r"mtp\.(fc|layers\.\d+\.eh_proj)\.weight$")
_HEADS_OF_COLUMNS = re.compile(r"\.(o_proj|linear_proj|out_proj)\.weight$")
_VISION_QKV = re.compile(r"(attn\.qkv|(?P<native>linear_qkv))\.(weight|bias)$")


class Names:
    """The parts of a model's tensors."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Read the sizes.

        Args:
            config: `config.json`; without one only gate and up are known, and the halves of `mtp.fc`.
        """
        config = config or {}
        self._text: TextGeometry | None = None
        self._tables: dict[str, Parts] = {}
        try:
            self._text = TextGeometry.from_config(config.get("text_config", config))
            self._tables = _tables(self._text)
        except (KeyError, TypeError):  # of another family
            pass
        self._vision_heads = int(config.get("vision_config", {}).get("num_heads", 0))

    def rows(self, name: str, count: int) -> Parts:
        """Return the parts of so many rows; of a tensor that holds all experts they are one expert's."""
        parts = self._rows(name, count)
        return parts if parts and parts.total == count else Parts({"": count})

    def _rows(self, name: str, count: int) -> Parts | None:
        place = parse(name)
        if place.scale:
            return None
        if place.projection:
            projections = joined(place.projection)
            if place.stacked and len(projections) == 1:
                return None
            return one_by_one({projection: count // len(projections) for projection in projections})
        if _is_vision(name):
            found = _VISION_QKV.search(name)
            return self._vision(count, native=bool(found["native"])) if found else None
        if _GATED.search(name):
            return one_by_one({"gate": count // 2, "up": count // 2})
        if match := re.search(r"\.(gate|up)_proj\.weight$", name):
            return one_by_one({match[1]: count})
        return next((parts for end, parts in self._tables.items() if name.endswith(end)), None)

    def _vision(self, count: int, *, native: bool) -> Parts | None:
        heads, names = self._vision_heads, ("query", "key", "value")
        if not heads or count % (3 * heads):
            return None
        sizes, each = dict.fromkeys(names, count // 3), dict.fromkeys(names, heads)
        if native:
            return by_group(sizes, heads, {heads: "head"}, each)
        return one_by_one(sizes, {heads: "head"}, **each)

    def columns(self, name: str, count: int) -> Parts:
        """Return the parts of so many columns."""
        parts: Parts | None = None
        if _HALVES.search(name):
            parts = one_by_one({"embedding": count // 2, "hidden": count // 2})
        elif self._text and not _is_vision(name) and (found := _HEADS_OF_COLUMNS.search(name)):
            linear = found[1] == "out_proj"
            heads = self._text.linear_num_value_heads if linear else self._text.num_attention_heads
            parts = Parts({"": count}, heads={"": heads})
        return parts if parts and parts.total == count else Parts({"": count})

    def siblings(self, name: str) -> list[str]:
        """Name a checkpoint's tensors with which one is fused in Megatron-Core, itself among them.

        Returns:
            The names, in the order in which their rows stand one below the other; none of a tensor that
            is not fused.
        """
        place = parse(name)
        if place.projection in ("gate", "up") and not place.scale and place.expert is not None:
            return [place._replace(projection=projection).key for projection in ("gate", "up")]
        for ends in _FUSED:
            for end in ends:
                if name.endswith(f".{end}") and not _is_vision(name):
                    return [name.removesuffix(end) + other for other in ends]
        return []


def _tables(text: TextGeometry) -> dict[str, Parts]:
    """Return the parts of the tensors with attention, by the end of their names."""
    query, both = text.query_size, text.key_value_size
    heads, groups = text.num_attention_heads, text.num_key_value_heads
    full = {heads: "head", groups: "query group"}
    of_heads = {"query": heads, "output gate": heads, "key": groups, "value": groups}
    key, value = text.linear_key_size, text.linear_value_size
    key_heads, value_heads = text.linear_num_key_heads, text.linear_num_value_heads
    linear = {value_heads: "value head", key_heads: "key head"}
    of_linear = {"query": key_heads, "key": key_heads, "value": value_heads, "z": value_heads}
    three = {"query": key, "key": key, "value": value}
    two = {"beta": value_heads, "alpha": value_heads}
    gated = {"query": query, "output gate": query}
    convolution = one_by_one(three, linear, **of_linear)
    return {
        "self_attn.q_proj.weight": by_group(gated, heads, full, of_heads),
        "self_attn.k_proj.weight": one_by_one({"key": both}, full, **of_heads),
        "self_attn.v_proj.weight": one_by_one({"value": both}, full, **of_heads),
        "self_attention.linear_qkv.weight": by_group(
            {**gated, "key": both, "value": both}, groups, full, of_heads
        ),
        "attn.in_proj_qkv.weight": convolution,
        "conv1d.weight": convolution,
        "attn.in_proj_z.weight": one_by_one({"z": value}, linear, **of_linear),
        "attn.in_proj_b.weight": one_by_one({"beta": value_heads}, linear),
        "attn.in_proj_a.weight": one_by_one({"alpha": value_heads}, linear),
        "attn.in_proj_qkvz.weight": by_group({**three, "z": value}, key_heads, linear, of_linear),
        "attn.in_proj_ba.weight": by_group(two, key_heads, linear),
        "self_attention.in_proj.weight": one_by_one({**three, "z": value, **two}, linear, **of_linear),
    }


def _is_vision(name: str) -> bool:
    return VISION_PREFIX in name or "vision_model." in name


def experts_of(name: str, shape: Sequence[int]) -> int:
    """Return how many experts a tensor of this name holds one below the other; 0 of any other tensor."""
    place: Place = parse(name)
    return shape[0] if place.stacked and not place.scale and len(shape) == 3 else 0

"""Many names told as one: `mtp.layers.0.mlp.experts.{0-7}.{gate,up,down}_proj.weight`.

A slot is what names of one kind differ in: a number (layer, expert, chunk, rank), or which projection it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

_WORDS = ("gate_up", "gate", "up", "down", "q", "k", "v", "o", "qkv", "z", "a", "b")
_SLOT = re.compile(
    r"\d+|(?<![A-Za-z_])(?:gate_up|gate|up|down|q|k|v|o)(?=_proj\b)|(?<=in_proj_)(?:qkv|z|a|b)\b"
)
_VALUES = re.compile(
    r"\[[^\]]*\]"  # an index, a shape
    r"|0x[0-9a-f]+"
    r"|-?(?:\b\d[\w.+-]*|\b(?:nan|inf)\b)"
)
_NAMED = re.compile(r"[\w/]+(?:[./][\w-]+)+")
_LISTED = re.compile(r"#(?:(?:, | and )#)+")


def template(text: str) -> str:
    """Return a name, or a text with names, with `#` in every slot."""
    return _SLOT.sub("#", text)


def kind(detail: str) -> str:
    """Return what a detail says without what is one tensor's own: numbers, bits, names, paths."""
    return general(detail).partition(": ")[0]


def general(text: str) -> str:
    """Return a text with `#` for every number, bit pattern, name and path; several in turn are one."""
    return _LISTED.sub("#", _VALUES.sub("#", _NAMED.sub("#", text)))


class Pattern(NamedTuple):
    """What texts have in common.

    Attributes:
        text: Such as "a.{0-7}.{gate,up}".
        texts: The texts that it stands for.
        few: Whether it spells out more than those.
    """

    text: str
    texts: int
    few: bool

    def __str__(self) -> str:
        return f"{self.texts} of {self.text}" if self.few else self.text


def patterns(texts: Iterable[str]) -> list[Pattern]:
    """Tell texts by what they have in common, in the order of their first ones: one for each template."""
    alike: dict[str, dict[tuple[str, ...], None]] = {}
    for text in texts:
        alike.setdefault(template(text), {})[tuple(_SLOT.findall(text))] = None
    return [_pattern(common, [*found]) for common, found in alike.items()]


def _pattern(common: str, found: Sequence[tuple[str, ...]]) -> Pattern:
    slots = [sorted(set(values), key=_order) for values in zip(*found, strict=True)]
    parts = common.split("#")
    filled = "".join(
        part + (_braces(slots[number]) if number < len(slots) else "") for number, part in enumerate(parts)
    )
    return Pattern(filled, len(found), len(found) < prod(map(len, slots)))


def _order(value: str) -> tuple[int, int, str]:
    if value.isdigit():
        return 0, int(value), value
    return 1, _WORDS.index(value), value


def _braces(values: Sequence[str]) -> str:
    """Tell the values of one slot, in order; neighbouring numbers as a range."""
    if len(values) == 1:
        return values[0]
    told: list[list[str]] = []
    for value in values:
        before = told[-1][-1] if told else ""
        if value.isdigit() and before.isdigit() and int(value) == int(before) + 1:
            told[-1].append(value)
        else:
            told.append([value])
    pieces = (piece for run in told for piece in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else run))
    return "{" + ",".join(pieces) + "}"

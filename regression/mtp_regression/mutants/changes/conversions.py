"""Mistaken ideas of one conversion: another row of the table, so that import and export err alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtp_fixtures.model.geometry import Geometry
from mtp_regression.in_memory.checkpoint import Checkpoint, Span
from mtp_regression.in_memory.conversions import Array, Conversion
from mtp_regression.in_memory.table import TABLE, Section


def row(section: Section, name: str, **changes: Any) -> type:
    """Have another row in the table: the one whose name ends so."""
    return rows(section, name, lambda of: replace(of, **changes))


def rows(section: Section, name: str, change: Callable[[Conversion], Conversion]) -> type:
    """Have another row in the table, made of the right one."""
    right = TABLE[section]
    assert sum(of.name.endswith(name) for of in right) == 1, name
    own = tuple(change(of) if of.name.endswith(name) else of for of in right)
    return attributes(table={**TABLE, section: own})


def without_row(section: Section, name: str) -> type:
    """Have a row less in the table."""
    own = tuple(of for of in TABLE[section] if not of.name.endswith(name))
    assert len(own) == len(TABLE[section]) - 1, name
    return attributes(table={**TABLE, section: own})


def exchanged(section: Section, one: str, other: str) -> type:
    """Have two rows with each other's keys."""
    keys = {of.name: of.keys for of in TABLE[section]}
    keys[one], keys[other] = keys[other], keys[one]
    return attributes(
        table={**TABLE, section: tuple(replace(of, keys=keys[of.name]) for of in TABLE[section])}
    )


def attributes(**values: Any) -> type:
    """Have other attributes."""
    return type("Attributes", (), values)


def columns(section: Section, name: str, order: Callable[[int], Sequence[int]]) -> type:
    """Have the columns of a parameter in another order, which is its own inverse."""
    return rows(section, name, lambda of: _OtherColumns(**vars(of), columns=order))


@dataclass(frozen=True)
class _OtherColumns(Conversion):
    """Puts columns into another order.

    Attributes:
        columns: Gives the order of so many of them.
    """

    columns: Callable[[int], Sequence[int]] = range

    def to_native(self, sizes: Geometry, tensors: Sequence[Array]) -> Array:
        """Make the parameter, and put its columns into another order."""
        whole = super().to_native(sizes, tensors)
        return whole[..., [*self.columns(whole.shape[-1])]]

    def to_stored(self, sizes: Geometry, whole: Array, rows: Sequence[int]) -> list[Array]:
        """Put the columns back, and make the tensors."""
        return super().to_stored(sizes, whole[..., [*self.columns(whole.shape[-1])]], rows)


def halves_exchanged(count: int) -> Sequence[int]:
    """Put the second half of so many before the first."""
    return [*range(count // 2, count), *range(count // 2)]


def reversed_columns(count: int) -> Sequence[int]:
    """Begin at the end."""
    return range(count)[::-1]


def reversed_rows(_sizes: Geometry, tensor: Array) -> Array:
    """Begin at the end."""
    return tensor[::-1]


def up_above_gate(_sizes: Geometry, gate: Array, up: Array) -> Array:
    """Put up's rows above gate's."""
    return np.concatenate((up, gate))


def gate_up_in_turn(_sizes: Geometry, gate: Array, up: Array) -> Array:
    """Put a row of up below every row of gate."""
    return np.stack((gate, up), axis=1).reshape(-1, *gate.shape[1:])


def projections_in_turn(_sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    """Put all queries, with their gates, before all keys and these before all values."""
    return np.concatenate((query, key, value))


def _by_group(sizes: Geometry, *parts: Array) -> Array:
    groups = sizes.text.num_key_value_heads
    each = [part.reshape(groups, -1, *parts[-1].shape[1:]) for part in parts]
    return np.concatenate(each, axis=1).reshape(-1, *parts[-1].shape[1:])


def _query_and_gate(sizes: Geometry, query: Array) -> tuple[Array, Array]:
    each = query.reshape(sizes.text.num_attention_heads, 2, -1, *query.shape[1:])
    return each[:, 0], each[:, 1]


def gate_before_query(sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    """Take each head's output gate for its query."""
    own, gate = _query_and_gate(sizes, query)
    return _by_group(sizes, gate, own, key, value)


def value_before_key(sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    """Take the keys for the values."""
    return _by_group(sizes, *_query_and_gate(sizes, query), value, key)


def other_key_head(sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    """Give each query group the next one's key head."""
    return _by_group(sizes, *_query_and_gate(sizes, query), np.roll(key, len(key) // 2, axis=0), value)


def alpha_before_beta(_sizes: Geometry, qkv: Array, gate: Array, beta: Array, alpha: Array) -> Array:
    """Take alpha for beta in GDN's projection."""
    return np.concatenate((qkv, gate, alpha, beta))


def key_before_query(sizes: Geometry, qkv: Array, gate: Array, beta: Array, alpha: Array) -> Array:
    """Take the queries of GDN for its keys."""
    size = sizes.text.linear_key_size
    query, key, value = np.split(qkv, (size, 2 * size))
    return np.concatenate((key, query, value, gate, beta, alpha))


class UpFirst(Checkpoint):
    """Takes the upper half of a packed `gate_up_proj` for up."""

    def _split(self, key: str) -> Iterator[tuple[str, Span]]:
        names = {"gate": "up", "up": "gate"} if key.endswith("gate_up_proj") else {}
        for part, span in super()._split(key):
            _, _, projection = part.removesuffix("_proj.weight").rpartition(".")
            yield part.replace(f".{projection}_proj.", f".{names.get(projection, projection)}_proj."), span

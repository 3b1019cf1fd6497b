"""The narrowest place that is wrong, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtp_regression.provenance.moves import Key, key_of, place_of, said_of_moves, unit_name
from mtp_regression.provenance.parts import Unit
from mtp_regression.provenance.rows import (
    Bits,
    Hashes,
    Numbers,
    block_hashes,
    blocks,
    differing,
    equal,
    ranges,
    spoken,
)
from mtp_regression.provenance.values import nans, said_of_values

_CLAUSES_AT_MOST = 3
_RANGES_AT_MOST = 3
_LEAST = 8
_PLURAL = re.compile(r"\b(rows|columns|experts|heads|and)\b")
REST = "; the rest is right"


@dataclass(frozen=True)
class Pair:
    """A wrong tensor and the right one, of one shape and dtype.

    Attributes:
        want: The right bit patterns [rows, columns].
        have: What is there.
        dtype: Safetensors' name of both's dtype.
        elsewhere: Says of some wrong rows, given by number, which other tensor has them; "" if none has.
    """

    want: Bits
    have: Bits
    dtype: str
    elsewhere: Callable[[Numbers], str]


def said_of_units(pair: Pair, units: Sequence[Unit], own: Hashes, right: Hashes) -> str:
    """Say what wrong parts, heads and experts hold.

    Args:
        pair: The tensors.
        units: What their rows are.
        own: Hashes of the rows that are there.
        right: Hashes of the right rows.
    """
    if len(units) < 2:
        return ""
    rows = {key_of(unit): unit.rows for unit in units}
    wrong = [key for key, at in rows.items() if not equal(pair.have[at], pair.want[at])]
    sources = _sources(rows, wrong, own, right)

    def holds(key: Key, source: Key) -> bool:
        return source in rows and equal(pair.have[rows[key]], pair.want[rows[source]])

    if not all(holds(key, source) for key, source in sources.items()):
        return ""
    clauses = []
    if sources:
        clauses.append(said_of_moves(sources, list(rows), holds))
    said: dict[str, list[Key]] = {}
    for key in (key for key in wrong if key not in sources):
        at = np.arange(rows[key].start, rows[key].stop)
        said.setdefault(_said(pair, rows[key], at), []).append(key)
    if len(said) > _CLAUSES_AT_MOST or ("" in said and len(said) > 1):
        return ""
    for sentence, keys in said.items():
        place = place_of(keys, list(rows))
        if not place or not (sentence or len(keys) < len(rows)):
            return ""
        clauses.append(_clause(place, sentence) if sentence else "")
    if not all(clauses):
        return ""
    rest = REST if said and len(wrong) < len(rows) else ""
    return ", ".join(clauses[:1]) + "".join(f"; {clause}" for clause in clauses[1:]) + rest


def _sources(rows: dict[Key, slice], wrong: Sequence[Key], own: Hashes, right: Hashes) -> dict[Key, Key]:
    """Find, by hashes, the unit whose rows each wrong unit holds; of several the one most like it."""
    by_hash: dict[tuple[int, int], list[Key]] = {}
    for key, at in rows.items():
        by_hash.setdefault((at.stop - at.start, int(block_hashes(right[at], 1)[0])), []).append(key)
    found = {}
    for key in wrong:
        at = rows[key]
        if like := by_hash.get((at.stop - at.start, int(block_hashes(own[at], 1)[0]))):
            found[key] = min(like, key=lambda other: sum(a != b for a, b in zip(key, other, strict=True)))
    return found


def _clause(place: str, sentence: str) -> str:
    plain = sentence.startswith(("NaN", "all "))
    return f"{place} {sentence}" if plain else f"{place}: {sentence}"


def _said(pair: Pair, rows: slice, numbers: Numbers) -> str:
    said = said_of_values(pair.want[rows], pair.have[rows], pair.dtype, least=_LEAST)
    return said or pair.elsewhere(numbers)


def said_of_place(pair: Pair, units: Sequence[Unit]) -> str:
    """Say of the narrowest rows or columns that hold all differences what is wrong with them."""
    rows, columns = differing(pair.have, pair.want)
    wrong_rows, wrong_columns = np.flatnonzero(rows), np.flatnonzero(columns)
    places: list[tuple[str, tuple[Any, Any]]] = []
    if len(wrong_rows) < len(rows):
        places.append((_place_of_rows(wrong_rows, len(rows), units), (wrong_rows, slice(None))))
    if len(wrong_columns) < len(columns):
        places.append((_counted("column", wrong_columns, len(columns)), (slice(None), wrong_columns)))
    for place, at in places:
        want, have = pair.want[at], pair.have[at]
        sentence = said_of_values(want, have, pair.dtype, least=_LEAST)
        if not sentence and at[0] is wrong_rows:
            sentence = pair.elsewhere(wrong_rows)
        if sentence:
            return _clause(place, sentence) + REST
    if lost := _partly_lost(pair):
        return lost
    wrong_units = [key_of(unit) for unit in units if rows[unit.rows].any()]
    if len(wrong_units) == 1 and len(units) > 1:
        inside = next(unit for unit in units if key_of(unit) == wrong_units[0]).rows
        own = wrong_rows - inside.start
        where = "" if len(own) == inside.stop - inside.start else _rows_alone(own)
        name = unit_name(wrong_units[0])
        return _only(f"{where} of {name}") if where else f"{name} alone differs"
    if (place := place_of(wrong_units, [key_of(unit) for unit in units])) and len(wrong_units) < len(units):
        return _only(place)
    stacked = units[0].expert is not None
    few = [
        _place_of_rows(wrong, count, units) if what == "row" and stacked else spoken(what, wrong)
        for what, wrong, count in (("row", wrong_rows, len(rows)), ("column", wrong_columns, len(columns)))
        if len(wrong) < count and len(ranges(wrong)) <= _RANGES_AT_MOST
    ]
    if not few:
        return ""
    return _only(" in ".join(few))


def _only(place: str) -> str:
    first = place.partition(" of ")[0].partition(" in ")[0]
    several = first[0].isdecimal() or _PLURAL.search(first)  # "2 of 40 rows"
    return f"only {place} differ{'' if several else 's'}"


def _rows_alone(rows: Numbers) -> str:
    return spoken("row", rows) if len(ranges(rows)) <= _RANGES_AT_MOST else f"{len(rows)} rows"


def _place_of_rows(rows: Numbers, count: int, units: Sequence[Unit]) -> str:
    """Name rows; those of a tensor that holds all experts by expert and number in it."""
    experts = {unit.expert for unit in units}
    if experts == {None}:
        return _counted("row", rows, count)
    each = count // len(experts)
    wrong = np.unique(rows // each)
    own = np.unique(rows % each)
    if len(own) * len(wrong) == len(rows) and max(len(ranges(own)), len(ranges(wrong))) <= _RANGES_AT_MOST:
        return f"{spoken('row', own)} of {spoken('expert', wrong)}"
    return f"{len(rows)} of {count} rows"


def _counted(what: str, numbers: Numbers, count: int) -> str:
    if len(ranges(numbers)) <= _RANGES_AT_MOST:
        return spoken(what, numbers)
    return f"{len(numbers)} of {count} {what}s"


def _partly_lost(pair: Pair) -> str:
    """Say that some elements were never loaded, if all others are right."""
    lost = 0
    for part in blocks(pair.have):
        nan = nans(pair.have[part], pair.dtype) & ~nans(pair.want[part], pair.dtype)
        if (pair.have[part] != pair.want[part])[~nan].any():
            return ""
        lost += int(np.count_nonzero(nan))
    size = pair.have.size
    if not lost:
        return ""
    some = "half of it" if 2 * lost == size else f"{lost} of {size} elements"
    return f"{some} NaN: never loaded{REST}"

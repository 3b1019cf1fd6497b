"""Sentences on which part, head or expert of a tensor holds which other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product

from mtp_regression.provenance.parts import Unit
from mtp_regression.provenance.rows import spoken

Key = tuple[int | None, str, int | None]
"""Expert, part and head of a unit."""
_LISTED_AT_MOST = 3
_PERMUTATION_AT_MOST = 16


def key_of(unit: Unit) -> Key:
    """Return what a unit is, without its rows."""
    return unit.expert, unit.part, unit.head


def unit_name(key: Key) -> str:
    """Name one unit, such as "expert 3's up" or "query head 2"."""
    expert, part, head = key
    words = " ".join([*([part] if part else []), *([] if head is None else [f"head {head}"])])
    if expert is None:
        return words
    return f"expert {expert}'s {words}" if words else f"expert {expert}"


def place_of(some: Collection[Key], every: Collection[Key]) -> str:
    """Name units that are all of some experts, parts and heads; "" if they are not."""
    experts, parts, heads = (list(dict.fromkeys(field)) for field in zip(*some, strict=True))
    if {key for key in every if key in set(product(experts, parts, heads))} != set(some):
        return ""
    if len(some) == 1:
        return unit_name(next(iter(some)))
    all_parts = {key[1] for key in every} == set(parts)
    own_heads = {key[2] for key in every if key[1] in parts}
    numbers = [] if own_heads == set(heads) else [head for head in heads if head is not None]
    words = [] if all_parts else [" and ".join(str(part) for part in parts)]
    words += [spoken("head", numbers)] if numbers else []
    if experts == [None]:
        return " ".join(words)
    named = spoken("expert", [expert for expert in experts if expert is not None])
    if not words:
        return named
    return f"{named}'s {' '.join(words)}" if len(experts) == 1 else f"{' '.join(words)} of {named}"


def said_of_moves(sources: Mapping[Key, Key], every: Sequence[Key], holds: Callable[[Key, Key], bool]) -> str:
    """Say which units hold which others.

    Args:
        sources: By unit that is wrong the unit whose rows it holds.
        every: All units of the tensor.
        holds: Whether a unit holds the rows of another one, for units that are not wrong.

    Returns:
        A sentence; "" if there are too many to be told.
    """
    for said in (_parts_moved, _numbers_moved):
        if text := said(sources, every, holds):
            return text
    if len(sources) > _LISTED_AT_MOST:
        return ""
    return ", ".join(f"{unit_name(key)} holds {unit_name(source)}" for key, source in sources.items())


def _parts_moved(sources: Mapping[Key, Key], every: Sequence[Key], holds: Callable[[Key, Key], bool]) -> str:
    """Say that parts hold other parts of the same experts and heads."""
    if any((key[0], key[2]) != (source[0], source[2]) for key, source in sources.items()):
        return ""
    moved = {key[1]: source[1] for key, source in sources.items()}
    experts = list(dict.fromkeys(key[0] for key in sources))
    heads = list(dict.fromkeys(key[2] for key in sources))
    expected = [key for key in every if key[0] in experts and key[2] in heads and key[1] in moved]
    if not all(holds(key, (key[0], moved[key[1]], key[2])) for key in expected):
        return ""
    where = "" if len(experts) == len({key[0] for key in every}) else f" in {_numbered('expert', experts)}"
    if len(heads) != len({key[2] for key in every if key[1] in moved}):
        where += f" of {_numbered('head', heads)}"
    if len(moved) == 2 and set(moved) == set(moved.values()):
        return f"{' and '.join(moved)} exchanged{where}"
    return ", ".join(f"{part} holds {source}" for part, source in moved.items()) + where


def _numbers_moved(
    sources: Mapping[Key, Key], every: Sequence[Key], holds: Callable[[Key, Key], bool]
) -> str:
    """Say that experts, or heads of a part, hold those of other numbers."""
    for field, what in ((0, "expert"), (2, "head")):
        kept = [other for other in range(3) if other != field]
        if any(key[part] != source[part] for key, source in sources.items() for part in kept):
            continue
        moved = {key[field]: source[field] for key, source in sources.items()}
        parts = list(dict.fromkeys(key[1] for key in sources))
        others = list(dict.fromkeys(key[2 - field] for key in sources))
        expected = [
            key for key in every if key[field] in moved and key[1] in parts and key[2 - field] in others
        ]
        if not all(holds(key, _with(key, field, moved[key[field]])) for key in expected):
            continue
        in_all = len(others) == len({key[2 - field] for key in every if key[1] in parts})
        all_parts = len(parts) == len({key[1] for key in every})
        if not in_all or (len(parts) > 1 and not all_parts):
            continue
        numbers = {int(key): int(held) for key, held in moved.items() if key is not None and held is not None}
        count = len({key[field] for key in every if key[1] in parts})
        if all_parts and (what == "expert" or not parts[0]):
            return _numbering(what, numbers, count)
        if what == "head":
            return f"{parts[0]} {_numbering(what, numbers, count)}"
        return f"{parts[0]} of {_numbering(what, numbers, count)}" if len(numbers) > 1 else ""
    return ""


def _numbering(what: str, moved: Mapping[int, int], count: int) -> str:
    """Say which number holds which."""
    if len(moved) == 1:
        ((number, source),) = moved.items()
        return f"{what} {number} holds {what} {source}"
    if set(moved) == set(moved.values()):
        if len(moved) == 2:
            return f"{what}s {' and '.join(map(str, sorted(moved)))} exchanged"
        held = [moved.get(number, number) for number in range(count)]
        if held == list(range(count))[::-1]:
            return f"{what}s in the reverse order"
        if count <= _PERMUTATION_AT_MOST:
            return f"{what}s permuted: holds {', '.join(map(str, held))}"
        one = min(moved)
        some = f"{len(moved)} of {count} hold another's, {what} {one} {moved[one]}'s"
        return f"{what}s permuted: {some}"
    for ranks in (ranks for ranks in range(2, count) if count % ranks == 0 and what == "expert"):
        each = count // ranks
        if moved == {number: number % each for number in range(each, count)}:
            first = f"{what}s {each}-{2 * each - 1} hold 0-{each - 1}" if each > 1 else f"{what} 1 holds 0"
            return f"experts numbered on each rank of ep{ranks}: {first}"
    if len(moved) <= _LISTED_AT_MOST:
        return ", ".join(f"{what} {number} holds {what} {source}" for number, source in moved.items())
    return ""


def _with(key: Key, field: int, number: int | str | None) -> Key:
    assert not isinstance(number, str)
    return (number, key[1], key[2]) if field == 0 else (key[0], key[1], number)


def _numbered(what: str, numbers: Sequence[int | None]) -> str:
    return spoken(what, [number for number in numbers if number is not None])

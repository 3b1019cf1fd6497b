"""The sentences on what stands where, for `sentences`: each is acted out in plain loops, and compared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .sentences import Told

Array = Any
GROUPS = {"head": 4, "query group": 2, "key head": 2, "value head": 4}
"""Of the models in the tests."""


def is_moved(told: Told, sentence: str) -> bool:
    """Whether a sentence on what stands where is true of every element."""
    for axis, what in ((0, "row"), (1, "column")):
        want, have = (np.moveaxis(bits, axis, 0) for bits in (told.want, told.have))
        if (rebuilt := _along(want, have, sentence.replace(what, "line"))) is not None:
            return _equal(rebuilt, have)
    if sentence.startswith("halves exchanged: "):
        halves = np.split(told.want, 2, axis=1)
        return _equal(np.concatenate(halves[::-1], axis=1), told.have)
    if re.fullmatch(r"(every expert )?transposed.*", sentence):
        rows, columns = told.shape[-2:]
        turned = told.want.reshape(-1, rows, columns).transpose(0, 2, 1)
        assert sentence.endswith(str(list(told.shape))) or rows == columns
        return _equal(turned.reshape(told.have.shape), told.have)
    if match := re.fullmatch(r"experts numbered on each rank of ep(\d+): .*", sentence):
        local = told.experts // int(match[1])
        experts = np.split(told.want, told.experts)
        return _equal(np.concatenate([experts[number % local] for number in range(told.experts)]), told.have)
    if match := re.fullmatch(r"(?:cut from )?(?:rows in the order (.*)|(.*) interleaved, .*)", sentence):
        return _in_order(told, match[1] or f"{match[2].replace(' and ', ', ')} by row", "cut" in sentence)
    return _units_hold(told, sentence)


def _along(want: Array, have: Array, sentence: str) -> Array | None:
    """Return what rows, called lines, are after what a sentence says; None if it is another one."""
    if sentence == "lines reversed":
        return want[::-1]
    if match := re.fullmatch(
        r"lines moved by (\d+) lines?, the (first to the end|last to the front)", sentence
    ):
        by = int(match[1])
        return np.concatenate([want[by:], want[:by]] if "end" in match[2] else [want[-by:], want[:-by]])
    if match := re.fullmatch(r"shards of lines in the order ([\d, ]+)", sentence):
        order = numbers_of(match[1])
        shards = np.split(want, len(order))
        return np.concatenate([shards[number] for number in order])
    if sentence == "the right lines in another order":
        places = np.empty(len(want), int)
        places[sorted(range(len(have)), key=lambda line: have[line].tolist())] = sorted(
            range(len(want)), key=lambda line: want[line].tolist()
        )
        return want[places]
    if re.fullmatch(r"(lines? [\d-]+ holds? [\d-]+(, )?)+", sentence):
        rebuilt = have.copy()
        for own, other in re.findall(r"lines? ([\d-]+) holds? ([\d-]+)", sentence):
            rebuilt[numbers_of(own)] = want[numbers_of(other)]
        return rebuilt
    return None


def _in_order(told: Told, text: str, cut: bool) -> bool:
    """Whether rows are in an order of parts; of a tensor that was cut, in that of all fused rows."""
    parts, begin = told.fused
    experts = 1 if cut else told.experts
    for expert in range(experts):
        each = len(told.have) // experts
        have = told.have[expert * each : (expert + 1) * each]
        if not cut:
            own = told.want[expert * each : (expert + 1) * each]
            parts = {}
            for part, _, first, end in told.parts:
                parts[part] = np.concatenate([*([parts[part]] if part in parts else []), own[first:end]])
        rows = []
        for bundle in text.split(", then "):
            names, _, by = bundle.partition(" by ")
            own_parts = [parts[name] for name in names.split(", ")]
            shards = re.fullmatch(r"shard of (\d+) ranks", by)
            numbers = {"": 1, "row": len(own_parts[0]), **GROUPS}
            groups = int(shards[1]) if shards else numbers[by]
            for group in range(groups):
                rows += [part[len(part) // groups * group :][: len(part) // groups] for part in own_parts]
        together = np.concatenate(rows)
        if not _equal(together[begin:][: len(have)] if cut else together, have):
            return False
    return True


def _units_hold(told: Told, sentence: str) -> bool:
    """Whether parts, heads and experts hold those that a sentence says."""
    match = re.fullmatch(r"(.*?)( in experts? [\d, -]+)?( of heads? [\d, -]+)?", sentence)
    assert match is not None
    said = match[1]
    scope = np.ones(len(told.want), bool)
    for where in (text for text in (match[2], match[3]) if text):
        text = where.replace(" in ", "").replace(" of ", "")
        mask = told.unit(text)
        assert mask is not None, sentence
        scope &= mask
    pairs: list[tuple[str, str]] = []
    renumbered = r"((?:.* )?)(expert|head)s (permuted: holds ([\d, ]+)|in the reverse order)"
    if found := re.fullmatch(renumbered, said):
        count = told.experts if found[2] == "expert" else len({head for _, head, *_ in told.parts})
        held = numbers_of(found[4]) if found[4] else list(range(count))[::-1]
        assert len(held) == count
        numbered = [
            _numbered(found[1].strip().removesuffix(" of"), found[2], str(number)) for number in range(count)
        ]
        pairs = [(numbered[own], numbered[other]) for own, other in enumerate(held)]
    elif found := re.fullmatch(r"((?:.* )?)(expert|head)s (\d+) and (\d+) exchanged", said):
        one, other = (
            _numbered(found[1].strip().removesuffix(" of"), found[2], number)
            for number in (found[3], found[4])
        )
        pairs = [(one, other), (other, one)]
    elif found := re.fullmatch(r"(.*) and (.*) exchanged", said):
        pairs = [(found[1], found[2]), (found[2], found[1])]
    elif " holds " in said:
        for clause in said.split(", "):
            own, _, other = clause.partition(" holds ")
            prefix = re.match(r"(.*) (?:expert|head) \d+$", own)
            plain = prefix and re.fullmatch(r"(expert|head) \d+", other)
            pairs.append((own, f"{prefix[1]} {other}" if prefix and plain else other))
    if not pairs:
        return False
    for own, other in pairs:
        mine, theirs = told.unit(own), told.unit(other)
        if mine is None or theirs is None or not _equal(told.want[theirs & scope], told.have[mine & scope]):
            return False
    return True


def _numbered(before: str, what: str, number: str) -> str:
    part = before.strip().removesuffix(" of")
    return f"expert {number}'s {part}" if part and what == "expert" else f"{part} {what} {number}".strip()


def _equal(one: Array, other: Array) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def numbers_of(text: str) -> list[int]:
    """Read "1-3, 5"."""
    found: list[int] = []
    for word in text.split(", "):
        first, _, last = word.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found

"""Names that differ by one number, written as one: `layer{0..3}`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(?<!\d)(?:0|[1-9]\d*)(?!\d)")  # one with leading zeros is text


def with_ranges(names: Iterable[str]) -> list[str]:
    """Write names that differ in a single number as one name with a range; no name is lost or added.

    The last number of a name is tried first, then the one before it. So a name can have several ranges:
    "layers.{0..3}.weight{0..255}".

    Args:
        names: Any names; repeated ones count once.

    Returns:
        The names, such as "weight{0..255}" or "weight{0..2,5}", in the order in which they first occur.
    """
    found = list(dict.fromkeys(names))
    most = max((len(_NUMBER.findall(name)) for name in found), default=0)
    for place in range(most - 1, -1, -1):
        found = _merged(found, place)
    return found


def _merged(names: Iterable[str], place: int) -> list[str]:
    groups: dict[tuple[str, str] | str, list[int]] = {}
    for name in names:
        numbers = [match for match in _NUMBER.finditer(name) if not _in_braces(name, match.start())]
        if place >= len(numbers):
            groups.setdefault(name, [])
            continue
        number = numbers[place]
        groups.setdefault((name[: number.start()], name[number.end() :]), []).append(int(number[0]))
    return [
        key if isinstance(key, str) else f"{key[0]}{_range(numbers)}{key[1]}"
        for key, numbers in groups.items()
    ]


def _in_braces(name: str, position: int) -> bool:
    return name.rfind("{", 0, position) > name.rfind("}", 0, position)


def _range(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    text = ",".join("..".join(map(str, run)) for run in runs)
    return text if text.isdigit() else f"{{{text}}}"

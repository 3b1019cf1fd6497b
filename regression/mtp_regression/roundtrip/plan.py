"""What a run takes, once it is known which bridge it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.roundtrip.declared import DeclaredException
from mtp_regression.stages.case import Case, Stage

Planned = tuple[Case, Sequence[Stage]]
"""A case, and the stages that it takes after the load."""


@dataclass(frozen=True)
class Plan:
    """What a run takes, once the adapter is known.

    Attributes:
        cases: One after the other.
        declared: The failures that are declared of the bridge.
        layouts_not_run: Layouts for which there are not the ranks, GPUs or memory.
        stages_not_run: Stages, and other checks, that the adapter cannot take, and why.
    """

    cases: Sequence[Planned]
    declared: Sequence[DeclaredException]
    layouts_not_run: Sequence[Parallel | Resharding] = ()
    stages_not_run: Mapping[str, str] = field(default_factory=dict)


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Name folders by the last parts of their paths, as few as tell them all apart.

    Args:
        folders: Absolute paths, all different.
    """
    parts = [folder.relative_to(folder.anchor).parts for folder in folders]
    names: list[str] = []
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(of[-count:]) for of in parts]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def given_once(words: Iterable[str], what: str) -> None:
    """Look whether something is given twice.

    Raises:
        ValueError: It is; the message names it.
    """
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise ValueError(f"{what} given twice: {', '.join(twice)}")

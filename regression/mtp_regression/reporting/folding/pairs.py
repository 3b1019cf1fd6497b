"""Findings that belong together: what is missing under one name, and there under another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.reporting.folding.groups import Group
from mtp_regression.reporting.folding.names import template

OTHER_LAYOUT = "in the other layout"
OTHER_NAMES = "other names?"

_LOST = {Verdict.FLIP: "written in the other layout", Verdict.MISSING: ""}
_EXTRA = {Verdict.FLIP: "the source has these", Verdict.UNEXPECTED: ""}
"""The two sides, and how their details begin (`comparison.compare`)."""


def paired(groups: Iterable[Group]) -> list[Group]:
    """Put both sides of a renaming together, if they were seen in the same places.

    Returns:
        All groups; of a pair the one that is expected, whose `renamed` are the others' findings and whose
        `said` is `OTHER_LAYOUT` for a block's experts in both layouts, or `OTHER_NAMES`: of an export's
        tensors as many that end alike; of parameters those of one part of the model, or of parts that are
        all missing or all unexpected.
    """
    alone = [*groups]
    for key, said in (
        (_experts, OTHER_LAYOUT),
        (_end, OTHER_NAMES),
        (_part, OTHER_NAMES),
        (_parameter, OTHER_NAMES),
    ):
        alone = _pair(alone, key, said)
    return alone


def _pair(groups: Sequence[Group], key: Callable[[Group], Hashable | None], said: str) -> list[Group]:
    lost: dict[Hashable, list[Group]] = {}
    extra: dict[Hashable, list[Group]] = {}
    for group in groups:
        own = key(group) if group.findings and not group.renamed else None
        if own is None:
            continue
        full: Hashable = group.verdict is Verdict.FLIP, tuple(group.seen), own
        detail = group.findings[0].detail
        if group.verdict in _LOST and detail.startswith(_LOST[group.verdict]):
            lost.setdefault(full, []).append(group)
        elif group.verdict in _EXTRA and detail.startswith(_EXTRA[group.verdict]):
            extra.setdefault(full, []).append(group)
    gone: set[int] = set()
    for full in lost.keys() & extra.keys():
        [first, *more] = lost[full]
        for group in more:
            first.take(group)
        first.renamed = [found for group in extra[full] for found in group.findings]
        first.said = said
        gone |= {id(group) for group in (*more, *extra[full])}
    return [group for group in groups if id(group) not in gone]


def _experts(group: Group) -> str | None:
    """Name the block that an export's experts are of."""
    found = group.findings[0]
    before, experts, _ = template(found.tensor).partition(".experts.")
    return before if experts and found.rank is None else None


def _end(group: Group) -> Hashable | None:
    """Give the last two parts of the names, and how many there are, of an export's tensors."""
    found = group.findings[0]
    end = template(found.tensor).rsplit(".", 2)[1:]
    return None if found.rank is not None else (len(group.tensors), *end)


def _part(group: Group) -> str | None:
    """Name the part of the model that parameters are of."""
    found = group.findings[0]
    return None if found.rank is None else found.tensor.partition(".")[0]


def _parameter(group: Group) -> str | None:
    return None if group.findings[0].rank is None else ""

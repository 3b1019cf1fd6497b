"""Declared exceptions: what a bridge's release cannot carry, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources

from mtp_regression.compare import Finding, Verdict


@dataclass(frozen=True)
class DeclaredException:
    """One entry of `exceptions.toml`, which describes the fields."""

    bridge: str
    releases: Sequence[str]
    checkpoint: str
    exports: Collection[str]
    tensor: str
    verdict: Verdict
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        if not self.reason.strip():
            raise ValueError(f"the exception for {self.tensor} gives no reason")

    def applies(self, *, bridge: str, release: str, checkpoint: str, export: str) -> bool:
        """Whether the exception speaks of a case."""
        return (
            bridge == self.bridge
            and any(fnmatchcase(release, pattern) for pattern in self.releases)
            and fnmatchcase(checkpoint, self.checkpoint)
            and export in self.exports
        )


@dataclass(frozen=True)
class Sorted:
    """A case's findings, held against the exceptions that apply to it.

    Attributes:
        undeclared: Findings that no exception covers.
        declared: Findings that one covers.
        stale: Tensors that an exception covers and that did not get its verdict, with its reason.
    """

    undeclared: tuple[Finding, ...]
    declared: tuple[Finding, ...]
    stale: tuple[tuple[str, str], ...]


def load() -> tuple[DeclaredException, ...]:
    """Read the exceptions that ship with the package."""
    text = resources.files(__package__).joinpath("exceptions.toml").read_text(encoding="utf-8")
    return tuple(DeclaredException(**entry) for entry in tomllib.loads(text)["exception"])


def sort_findings(
    findings: Sequence[Finding], names: Collection[str], exceptions: Sequence[DeclaredException]
) -> Sorted:
    """Hold findings against the exceptions that apply.

    Args:
        findings: What the comparison found.
        names: Every tensor that was compared, exact ones included.
        exceptions: Those that apply to the case.

    Returns:
        Each finding once, as declared or undeclared, and what is stale.
    """
    verdicts = dict.fromkeys(names, Verdict.EXACT) | {found.tensor: found.verdict for found in findings}
    covered: set[tuple[str, Verdict]] = set()
    stale: list[tuple[str, str]] = []
    for exception in exceptions:
        matching = [name for name in sorted(verdicts) if fnmatchcase(name, exception.tensor)]
        covered |= {(name, exception.verdict) for name in matching}
        stale += [(name, exception.reason) for name in matching if verdicts[name] is not exception.verdict]
        if not matching:
            stale.append((exception.tensor, f"covers no tensor: {exception.reason}"))
    declared = tuple(found for found in findings if (found.tensor, found.verdict) in covered)
    undeclared = tuple(found for found in findings if (found.tensor, found.verdict) not in covered)
    return Sorted(undeclared, declared, tuple(stale))

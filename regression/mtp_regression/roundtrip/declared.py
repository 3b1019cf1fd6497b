"""Declared failures: what a bridge cannot carry, and why, as its adapter or a file says.

A failure is declared of checks, by a pattern of their ids ("packed-pp2::stream"), and perhaps of some of what
they compare. It is held strictly: a declared failure that does not happen is itself one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Protocol

import ml_dtypes
from numpy.typing import NDArray

from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.comparison.verdicts import Finding, Verdict


def _fits_bf16(tensor: RawTensor) -> bool:
    values = tensor.array()
    return _same(values.astype(ml_dtypes.bfloat16).astype(values.dtype), values)


def _fits_bf16_minus_one(tensor: RawTensor) -> bool:
    one = ml_dtypes.bfloat16(1)
    values = tensor.array()
    held = values.astype(ml_dtypes.bfloat16) - one
    return _same((held + one).astype(values.dtype), values)


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return left.tobytes() == right.tobytes()


CONDITIONS: dict[str, Callable[[RawTensor], bool]] = {
    "f32-fits-bf16": lambda tensor: tensor.dtype == "F32" and _fits_bf16(tensor),
    "exceeds-bf16": lambda tensor: not _fits_bf16(tensor),
    "f32-fits-bf16-minus-one": lambda tensor: tensor.dtype == "F32" and _fits_bf16_minus_one(tensor),
    "exceeds-bf16-minus-one": lambda tensor: not _fits_bf16_minus_one(tensor),
}
"""What `when` may ask of a source tensor: whether BF16, or w - 1 in BF16, holds its values, and its dtype."""


@dataclass(frozen=True, kw_only=True)
class DeclaredException:
    """One declared failure.

    Attributes:
        checks: Patterns of the ids of the checks in which it appears, such as "*-pp2*::stream".
        reason: Why it does.
        tensor: Pattern of the names of what is wrong: a tensor's key or a parameter's name, without rank and
            chunk, or in the stage `files` a file or field. Empty: the checks fail, whatever is wrong, also by
            an error.
        verdict: What each of them gets; None: any but exact.
        when: Which of the source's tensors: one of `CONDITIONS`; empty: all that the pattern names.
        releases: Patterns of the bridge's releases.
        strict: False if something else decides whether it happens, such as another package's release.
    """

    checks: Sequence[str]
    reason: str
    tensor: str = ""
    verdict: Verdict | None = None
    when: str = ""
    releases: Sequence[str] = ("*",)
    strict: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.checks, str):
            object.__setattr__(self, "checks", (self.checks,))
        if self.verdict is not None:
            object.__setattr__(self, "verdict", Verdict(self.verdict))
        if self.when and self.when not in CONDITIONS:
            raise ValueError(f"{self.when!r} is none of {', '.join(CONDITIONS)}")
        if not self.reason.strip():
            raise ValueError(f"the failure declared of {' '.join([*self.checks, self.tensor])} has no reason")

    def applies(self, *, check: str, release: str) -> bool:
        """Whether it speaks of a check of a bridge's release."""
        return any(fnmatchcase(release, pattern) for pattern in self.releases) and any(
            fnmatchcase(check, pattern) for pattern in self.checks
        )

    def allows(self, verdict: Verdict) -> bool:
        """Whether this verdict is the declared one."""
        return verdict is not Verdict.EXACT and self.verdict in (None, verdict)

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is of what is declared."""
        return self.allows(finding.verdict) and (not self.tensor or fnmatchcase(finding.tensor, self.tensor))

    def tensors(self, source: Tensors) -> list[str]:
        """Return the source's tensors of which it speaks."""
        named = (name for name in sorted(source) if self.tensor and fnmatchcase(name, self.tensor))
        return [name for name in named if not self.when or CONDITIONS[self.when](source[name])]


class _Text(Protocol):
    """A file, or a resource of a package."""

    def read_text(self, encoding: str) -> str:
        """Return its content."""


Declared = Mapping[str, str] | Sequence[DeclaredException] | _Text
"""Failures as an adapter declares them: reasons by "CHECK" or "CHECK TENSOR", both patterns; or a TOML file
with a table `[[declared]]` for each, whose fields are those of `DeclaredException`."""


def read_declared(given: Declared | None) -> tuple[DeclaredException, ...]:
    """Read declared failures.

    Raises:
        ValueError: One of them has no reason, or a field that is none, or a file is no TOML.
    """
    if not given:
        return ()
    if isinstance(given, Mapping):
        return tuple(
            DeclaredException(checks=(check,), tensor=tensor, reason=reason)
            for key, reason in given.items()
            for check, _, tensor in (key.partition(" "),)
        )
    if isinstance(given, Sequence):
        return tuple(given)
    return tuple(_of_table(table) for table in tomllib.loads(given.read_text(encoding="utf-8"))["declared"])


def _of_table(table: Mapping[str, Any]) -> DeclaredException:
    known = {field.name for field in fields(DeclaredException)}
    if unknown := table.keys() - known:
        raise ValueError(f"{', '.join(sorted(unknown))}: no field of a declared failure; it has {known}")
    if missing := {"checks", "reason"} - table.keys():
        raise ValueError(f"a declared failure has no {' and no '.join(sorted(missing))}")
    return DeclaredException(**table)


@dataclass(frozen=True)
class Sorted:
    """A check's findings, held against the declared failures that apply to it.

    Attributes:
        undeclared: Findings that are not declared.
        declared: Findings that are.
        stale: What is declared and did not happen, with its reason.
    """

    undeclared: tuple[Finding, ...]
    declared: tuple[Finding, ...]
    stale: tuple[tuple[str, str], ...]


def sort_findings(
    findings: Sequence[Finding], source: Tensors, declared: Sequence[DeclaredException]
) -> Sorted:
    """Hold a check's findings against the declared failures that apply to it.

    A failure that is declared of tensors of the source has to happen to each of them; any other once.

    Args:
        findings: What the comparison found; a tensor of the source without a finding is exact.
        source: The checkpoint's tensors.
        declared: Those that apply.

    Returns:
        Each finding once, as declared or undeclared, and what is stale.
    """
    covered: set[int] = set()
    stale: list[tuple[str, str]] = []
    for entry in declared:
        named = dict.fromkeys(entry.tensors(source))
        hit = [
            n
            for n, found in enumerate(findings)
            if entry.covers(found) and (not entry.when or found.tensor in named)
        ]
        covered |= {*hit}
        if entry.strict:
            stale += _not_met(entry, named, {findings[n].tensor for n in hit})
    indexed = [*enumerate(findings)]
    return Sorted(
        tuple(found for n, found in indexed if n not in covered),
        tuple(found for n, found in indexed if n in covered),
        tuple(stale),
    )


def _not_met(entry: DeclaredException, named: Mapping[str, None], met: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what a strict entry says and did not happen."""
    if named and (entry.when or met <= named.keys()):
        yield from ((name, entry.reason) for name in named if name not in met)
    elif not met and not entry.when:
        yield entry.tensor or "any tensor", entry.reason

"""Declared exceptions: what a bridge's release cannot carry, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

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


@dataclass(frozen=True)
class DeclaredException:
    """One entry of `declared.toml`, which describes the fields."""

    bridge: str
    releases: Sequence[str]
    stages: Collection[str]
    tensor: str
    verdict: Verdict
    reason: str
    when: str = ""
    strict: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        if self.when and self.when not in CONDITIONS:
            raise ValueError(f"{self.when!r} is none of {', '.join(CONDITIONS)}")
        if not self.reason.strip():
            raise ValueError(f"the exception for {self.tensor} gives no reason")

    def applies(self, *, bridge: str, release: str, stage: str) -> bool:
        """Whether the exception speaks of a stage of a bridge's release."""
        return (
            bridge == self.bridge
            and any(fnmatchcase(release, pattern) for pattern in self.releases)
            and stage in self.stages
        )

    def covers(self, name: str, tensor: RawTensor) -> bool:
        """Whether the exception speaks of a source tensor."""
        return fnmatchcase(name, self.tensor) and (not self.when or CONDITIONS[self.when](tensor))


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


def declared_exceptions() -> tuple[DeclaredException, ...]:
    """Read the exceptions that ship with the package."""
    text = (
        resources.files("mtp_regression.adapters")
        .joinpath("megatron_bridge.toml")
        .read_text(encoding="utf-8")
    )
    return tuple(DeclaredException(**entry) for entry in tomllib.loads(text)["exception"])


def sort_findings(
    findings: Sequence[Finding], source: Tensors, exceptions: Sequence[DeclaredException]
) -> Sorted:
    """Hold findings against the exceptions that apply.

    Args:
        findings: What the comparison found; a tensor of the source without a finding is exact.
        source: The checkpoint's tensors.
        exceptions: Those that apply to the stage.

    Returns:
        Each finding once, as declared or undeclared, and what is stale.
    """
    verdicts = {found.tensor: found.verdict for found in findings}
    covered: set[tuple[str, Verdict]] = set()
    stale: list[tuple[str, str]] = []
    for exception in exceptions:
        if not exception.strict:
            covered |= {
                (found.tensor, found.verdict)
                for found in findings
                if found.verdict is exception.verdict and fnmatchcase(found.tensor, exception.tensor)
            }
            continue
        matching = [name for name in sorted(source) if exception.covers(name, source[name])]
        covered |= {(name, exception.verdict) for name in matching}
        stale += [
            (name, exception.reason) for name in matching if verdicts.get(name) is not exception.verdict
        ]
    declared = tuple(found for found in findings if (found.tensor, found.verdict) in covered)
    undeclared = tuple(found for found in findings if (found.tensor, found.verdict) not in covered)
    return Sorted(undeclared, declared, tuple(stale))

"""Compares a rank's parameters after an import with the values that Megatron-Core's definitions require.

A round trip cannot show a mistake that import and export make alike. The expected values are therefore
derived from Megatron-Core's and transformers' own code. Only the parameter names inside the vision tower come
from a bridge (see `oracle.vision`): Megatron-Core has no such model. That they are right shows in what they
compute: a model that holds them, and was never loaded, has the logits of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from mtp_regression.comparison.compare import Origin
from mtp_regression.comparison.elements import compare_tensor
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.oracle.recipes import Recipe
from mtp_regression.oracle.source import AbsentError


def check(
    expected: Mapping[str, Recipe],
    parameters: Iterable[tuple[str, RawTensor]],
    origin: Origin | None = None,
) -> list[Finding]:
    """Compare every parameter of a rank with its expected value, one at a time.

    Args:
        expected: Recipe of each parameter by name, from `native_parameters`.
        parameters: Name and value of each parameter on the rank: the rank's shard, BF16, under the names of
            `native_parameters`. Routed experts may also be named as separate modules,
            "experts.local_experts.{i}.linear_fc1.weight" (`SequentialMLP` of
            `megatron.core.transformer.moe.experts`).
        origin: Asked of every parameter that is not exact, by its name in `expected`, such as
            `oracle.claims.NativeOrigins.of`.

    Returns:
        A finding for each parameter that differs from its expected value in shape, dtype or bytes; that is
        not expected, occurs more than once, or is missing; or whose tensor the checkpoint does not have.
        Empty if every expected parameter occurs exactly once with the right bytes.

    Raises:
        ValueError: The parallel sizes do not divide a tensor of the checkpoint.
    """
    findings: list[Finding] = []
    seen: set[str] = set()
    sequential = False
    for name, parameter in parameters:
        sequential |= _SEQUENTIAL.search(name) is not None
        key = expected_name(name)
        if key in seen:
            findings.append(parameter_finding(name, Verdict.UNEXPECTED, "came more than once"))
        elif key not in expected:
            findings.append(
                parameter_finding(name, Verdict.UNEXPECTED, "no parameter of this name is expected")
            )
        else:
            findings += _compare(name, expected[key], parameter, origin and partial(origin, key))
        seen.add(key)
    for key in expected.keys() - seen:
        name = _GROUPED.sub(r".experts.local_experts.\2.\1.weight", key) if sequential else key
        findings.append(parameter_finding(name, Verdict.MISSING, "the model has no such parameter"))
    return sorted(findings, key=lambda finding: finding.order)


def expected_name(name: str) -> str:
    """Return the name of `native_parameters` for that of a parameter, which may be a SequentialMLP's."""
    return _SEQUENTIAL.sub(r".experts.\2.weight\1", name)


def _compare(
    name: str, recipe: Recipe, parameter: RawTensor, origin: Callable[[RawTensor, RawTensor], str] | None
) -> list[Finding]:
    try:
        right = RawTensor.from_array(recipe())
    except AbsentError as error:
        return [parameter_finding(name, Verdict.MISSING, str(error))]
    verdict, detail = compare_tensor(right, parameter)
    if verdict is Verdict.EXACT:
        return []
    found = parameter_finding(name, verdict, detail)
    return [replace(found, origin=origin(right, parameter)) if origin else found]


def parameter_finding(name: str, verdict: Verdict, detail: str) -> Finding:
    """Make a finding on a parameter; its name, "{chunk}/{Megatron-Core's name}", becomes two fields."""
    chunk, _, tensor = name.partition("/")
    if not chunk.isdecimal():
        return Finding(name, verdict, detail)
    return Finding(tensor, verdict, detail, chunk=int(chunk))


_SEQUENTIAL = re.compile(r"\.experts\.local_experts\.(\d+)\.(linear_fc[12])\.weight$")
_GROUPED = re.compile(r"\.experts\.(linear_fc[12])\.weight(\d+)$")

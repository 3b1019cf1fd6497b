"""The oracle: whether a rank holds, after an import, what Megatron-Core's own layout wants of it.

A round trip is blind to an import and an export that make the same mistake. What is here and in the modules
`native_...` is written from Megatron-Core's definition of its parameters, and from no bridge's code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mtp_regression.comparison.compare import compare_tensor
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.oracle.recipes import Recipe
from mtp_regression.oracle.source import AbsentError


def check(expected: Mapping[str, Recipe], parameters: Iterable[tuple[str, RawTensor]]) -> list[Finding]:
    """Compare every parameter of a rank with what is expected of it, one at a time.

    Args:
        expected: See `native_parameters`.
        parameters: The rank's parameters, under the same names; routed experts may also be one module
            each, as in `megatron.core.transformer.moe.experts.SequentialMLP`.

    Returns:
        One finding for every parameter that is not exact, that nothing is known of, or that came more than
        once; for every one that is expected and was not there; and for every one whose tensor the
        checkpoint lacks. So without a finding each parameter was written, exactly once, and rightly.
    """
    findings: list[Finding] = []
    seen: set[str] = set()
    sequential = False
    for name, parameter in parameters:
        sequential |= _SEQUENTIAL.search(name) is not None
        key = _SEQUENTIAL.sub(r".experts.\2.weight\1", name)
        if key in seen:
            findings.append(_finding(name, Verdict.UNEXPECTED, "came more than once"))
        elif key not in expected:
            findings.append(_finding(name, Verdict.UNEXPECTED, "no parameter of this name is expected"))
        else:
            findings += _compare(name, expected[key], parameter)
        seen.add(key)
    for key in expected.keys() - seen:
        name = _GROUPED.sub(r".experts.local_experts.\2.\1.weight", key) if sequential else key
        findings.append(_finding(name, Verdict.MISSING, "the model has no such parameter"))
    return sorted(findings, key=lambda finding: finding.order)


def _compare(name: str, recipe: Recipe, parameter: RawTensor) -> list[Finding]:
    try:
        verdict, detail = compare_tensor(RawTensor.from_array(recipe()), parameter)
    except AbsentError as error:
        verdict, detail = Verdict.MISSING, str(error)
    return [] if verdict is Verdict.EXACT else [_finding(name, verdict, detail)]


def _finding(name: str, verdict: Verdict, detail: str) -> Finding:
    """Make a finding of a parameter that is named "{chunk}/{Megatron-Core's name}", as it should be."""
    chunk, _, tensor = name.partition("/")
    if not chunk.isdecimal():
        return Finding(name, verdict, detail)
    return Finding(tensor, verdict, detail, chunk=int(chunk))


_SEQUENTIAL = re.compile(r"\.experts\.local_experts\.(\d+)\.(linear_fc[12])\.weight$")
_GROUPED = re.compile(r"\.experts\.(linear_fc[12])\.weight(\d+)$")

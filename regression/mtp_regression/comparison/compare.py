"""Compares the tensors of a checkpoint with those of an export: names, shapes, dtypes and bytes.

An export is compared as it comes: of a tensor that has been compared only its name and verdicts are kept.
Nothing here knows of bridges, ranks or pytest.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.elements import compare_tensor
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.comparison.verdicts import Finding, Verdict

Origin = Callable[[str, RawTensor, RawTensor], str]
"""Says what a wrong tensor holds instead: of its name, the right tensor and the one that is there."""


def compare(
    source: Tensors, export: Iterable[tuple[str, RawTensor]], origin: Origin | None = None
) -> list[Finding]:
    """Compare an export with the checkpoint it came from, a tensor at a time.

    Tensors with a name on both sides are compared as they are. A tensor that only the export has is split
    into single experts, which are compared with the source's, to tell another expert layout (FLIP) from
    missing or wrong values.

    Args:
        source: Tensors of the checkpoint that was loaded, by key.
        export: Names and tensors, as a bridge yields them. Of a name that comes more than once the last
            tensor counts.
        origin: Asked at once of every tensor that is not exact, such as `provenance.origins.Origins.of`.

    Returns:
        UNEXPECTED for every name that came more than once, then one finding for every tensor that is not
        exact, both in order of names; empty if all are exact and came once.
    """
    times = Counter[str]()
    named: dict[str, _Result] = {}
    unlike: set[str] = set()
    extra: dict[str, _Experts] = {}
    holders = _holders(source)
    for name, tensor in export:
        times[name] += 1
        if name in source:
            result = _judged(name, source[name], tensor, origin)
            unlike |= {name} if named.get(name, result) != result else set()
            named[name] = result
        else:
            extra[name] = _compare_experts(name, tensor, holders, origin, exported=named)
        del tensor  # before the next one is made
    lost = {name: [part for part, _ in _split(name, source[name])] for name in source.keys() - named.keys()}
    lost_experts = {part for parts in lost.values() for part in parts}
    elsewhere = {part: results for experts in extra.values() for part, results in experts.items()}
    findings = [
        Finding(name, *result) for name, result in named.items() if result.verdict is not Verdict.EXACT
    ]
    findings += [_find_elsewhere(name, parts, elsewhere) for name, parts in lost.items()]
    for name, experts in extra.items():
        if experts.keys() <= lost_experts:
            findings.append(Finding(name, Verdict.FLIP, "the source has these experts in the other layout"))
        elif experts.keys() <= holders.keys():
            findings.append(Finding(name, Verdict.BOTH_LAYOUTS, "these experts are there twice"))
        else:
            findings.append(Finding(name, Verdict.UNEXPECTED, "the source has no such tensor"))
    repeated = sorted(name for name, count in times.items() if count > 1)
    return [
        *(
            Finding(name, Verdict.UNEXPECTED, f"came {times[name]} times{', not alike' * (name in unlike)}")
            for name in repeated
        ),
        *sorted(findings, key=lambda finding: finding.tensor),
    ]


class _Result(NamedTuple):
    verdict: Verdict
    detail: str
    origin: str = ""


_Experts = dict[str, dict[str, _Result]]
"""Results by expert's matrix, or name of a tensor that is not split; then by the source's tensor with it."""


def _judged(name: str, expected: RawTensor, actual: RawTensor, origin: Origin | None) -> _Result:
    verdict, detail = compare_tensor(expected, actual)
    if origin is None or verdict is Verdict.EXACT:
        return _Result(verdict, detail)
    return _Result(verdict, detail, origin(name, expected, actual))


def _holders(source: Tensors) -> dict[str, dict[str, RawTensor]]:
    """Find the tensors of the source that have each expert's matrix: the matrix, by name of the tensor."""
    holders: dict[str, dict[str, RawTensor]] = defaultdict(dict)
    for name, tensor in source.items():
        for part, matrix in _split(name, tensor):
            holders[part][name] = matrix
    return dict(holders)


def _compare_experts(
    name: str,
    tensor: RawTensor,
    holders: Mapping[str, Mapping[str, RawTensor]],
    origin: Origin | None,
    *,
    exported: Container[str],
) -> _Experts:
    """Compare each expert's matrix of an exported tensor with those of the source that are not exported."""
    return {
        part: {
            holder: _judged(part, expected, matrix, origin)
            for holder, expected in holders.get(part, {}).items()
            if holder not in exported
        }
        for part, matrix in _split(name, tensor)
    }


def _find_elsewhere(name: str, parts: Collection[str], elsewhere: _Experts) -> Finding:
    """Say what became of a tensor that is not exported under its own name."""
    absent = [part for part in parts if part not in elsewhere]
    if absent:
        detail = "" if absent == [name] else f"{len(absent)} experts' projections"
        return Finding(name, Verdict.MISSING, detail)
    results = [(part, elsewhere[part][name]) for part in sorted(parts)]
    part, (verdict, detail, origin) = max(
        results, key=lambda result: result[1].verdict.severity, default=("", _Result(Verdict.EXACT, ""))
    )
    if verdict is Verdict.EXACT:
        return Finding(name, Verdict.FLIP, "written in the other layout, values exact")
    detail = f"written in the other layout; {part}: {detail}"
    return Finding(name, verdict, detail, f"{part}: {origin}" if origin else "")


def _split(name: str, tensor: RawTensor) -> Iterator[tuple[str, RawTensor]]:
    """Split a packed tensor [experts, ...] into one matrix per expert and projection; keep any other.

    A matrix's bytes are taken out of the tensor's, without a copy, when they are asked for.
    """
    parts = split_packed(name, tensor.shape)
    if parts is None:
        yield name, tensor
        return
    start = 0
    for part, shape in parts:
        end = start + math.prod(shape)
        yield part, RawTensor(tensor.dtype, shape, partial(_elements, tensor, start, end))
        start = end


def _elements(tensor: RawTensor, start: int, end: int) -> NDArray[np.uint8]:
    data = tensor.data
    item_size = data.size // max(1, math.prod(tensor.shape))
    return data[start * item_size : end * item_size]

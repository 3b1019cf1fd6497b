"""Compares the tensors of a checkpoint with those of an export: names, shapes, dtypes and bytes.

Both sides are mappings of names to `RawTensor`; nothing here knows of bridges, ranks or pytest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.comparison.verdicts import Finding, Verdict


def collect(export: Iterable[tuple[str, RawTensor]]) -> tuple[dict[str, RawTensor], list[Finding]]:
    """Collect the tensors of an export.

    Args:
        export: Names and tensors, as a bridge yields them.

    Returns:
        The tensors by name, and an UNEXPECTED finding for every name that occurred more than once. Of such a
        name the last tensor is kept.
    """
    tensors: dict[str, RawTensor] = {}
    times = Counter[str]()
    for name, tensor in export:
        tensors[name] = tensor
        times[name] += 1
    repeated = sorted(name for name, count in times.items() if count > 1)
    return tensors, [Finding(name, Verdict.UNEXPECTED, f"came {times[name]} times") for name in repeated]


def compare(source: Tensors, exported: Tensors) -> list[Finding]:
    """Compare an export with the checkpoint it came from.

    Tensors with a name on both sides are compared as they are. Names on one side only are then split into
    single experts and compared again, to tell another expert layout (FLIP) from missing or wrong values.

    Args:
        source: Tensors of the checkpoint that was loaded, by key.
        exported: Tensors that the bridge exported, by key.

    Returns:
        One finding for every tensor that is not exact, in order of names; empty if all are.
    """
    findings = compare_named(source, {name: exported[name] for name in source.keys() & exported.keys()})
    findings = [finding for finding in findings if finding.verdict is not Verdict.MISSING]
    lost = {name: source[name] for name in source.keys() - exported.keys()}
    extra = {name: exported[name] for name in exported.keys() - source.keys()}
    lost_experts, extra_experts = _per_expert(lost), _per_expert(extra)
    known_experts = _per_expert(source)
    for name, tensor in lost.items():
        findings.append(_find_elsewhere(name, _per_expert({name: tensor}), extra_experts))
    for name, tensor in extra.items():
        experts = _per_expert({name: tensor}).keys()
        if experts <= lost_experts.keys():
            findings.append(Finding(name, Verdict.FLIP, "the source has these experts in the other layout"))
        elif experts <= known_experts.keys():
            findings.append(Finding(name, Verdict.BOTH_LAYOUTS, "these experts are there twice"))
        else:
            findings.append(Finding(name, Verdict.UNEXPECTED, "the source has no such tensor"))
    return sorted(findings, key=lambda finding: finding.tensor)


def compare_named(expected: Tensors, actual: Tensors) -> list[Finding]:
    """Compare two sets of tensors name by name, as they are.

    Args:
        expected: The right tensors, by name.
        actual: The tensors to check, by name.

    Returns:
        One finding for every tensor that is not exact, missing and unexpected ones included.
    """
    findings = []
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            findings.append(Finding(name, Verdict.MISSING))
        elif name not in expected:
            findings.append(Finding(name, Verdict.UNEXPECTED))
        else:
            verdict, detail = compare_tensor(expected[name], actual[name])
            if verdict is not Verdict.EXACT:
                findings.append(Finding(name, verdict, detail))
    return findings


def compare_tensor(expected: RawTensor, actual: RawTensor) -> tuple[Verdict, str]:
    """Compare one tensor with the right one: shape, then bytes, then values.

    Returns:
        EXACT, DTYPE, WRONG or POISONED, and a detail: for wrong values the first index that differs, with
        both bit patterns.
    """
    if expected.shape != actual.shape:
        return Verdict.WRONG, f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    same_dtype = expected.dtype == actual.dtype
    if same_dtype and np.array_equal(expected.data, actual.data):
        return Verdict.EXACT, ""
    want, have = expected.array().reshape(-1), actual.array().reshape(-1)
    with np.errstate(invalid="ignore"):
        want_values, have_values = want.astype(np.float64), have.astype(np.float64)
    poisoned = np.isnan(have_values) & ~np.isnan(want_values)
    if poisoned.any():
        first = _index(int(poisoned.argmax()), expected.shape)
        return Verdict.POISONED, f"{int(poisoned.sum())} of {poisoned.size} elements are NaN, first {first}"
    if same_dtype:
        differs = (expected.data != actual.data).reshape(want.size, -1).any(axis=1)
    else:
        # As float64's bits: 0 is not -0, nor one NaN another.
        differs = want_values.view(np.uint64) != have_values.view(np.uint64)
    if not differs.any():
        return Verdict.DTYPE, f"{actual.dtype} instead of {expected.dtype}, equal values"
    at = int(differs.argmax())
    detail = (
        f"{int(differs.sum())} of {differs.size} elements differ, first {_index(at, expected.shape)}: "
        f"{_bits(actual, at)} ({have[at]}) instead of {_bits(expected, at)} ({want[at]})"
    )
    return Verdict.WRONG, detail


def _per_expert(tensors: Tensors) -> dict[str, RawTensor]:
    """Split packed tensors [experts, ...] into one matrix per expert and projection; keep the others."""
    split: dict[str, RawTensor] = {}
    for name, tensor in tensors.items():
        parts = split_packed(name, tensor.shape)
        if parts is None:
            split[name] = tensor
            continue
        offset = 0
        item_size = tensor.data.size // max(1, int(np.prod(tensor.shape)))
        for part_name, part_shape in parts:
            end = offset + int(np.prod(part_shape)) * item_size
            split[part_name] = RawTensor(tensor.dtype, part_shape, tensor.data[offset:end])
            offset = end
    return split


def _find_elsewhere(name: str, experts: Tensors, elsewhere: Tensors) -> Finding:
    if not experts.keys() <= elsewhere.keys():
        absent = sorted(experts.keys() - elsewhere.keys())
        return Finding(
            name, Verdict.MISSING, "" if absent == [name] else f"{len(absent)} experts' projections"
        )
    findings = compare_named(experts, {expert: elsewhere[expert] for expert in experts})
    if not findings:
        return Finding(name, Verdict.FLIP, "written in the other layout, values exact")
    gravest = max(findings, key=lambda finding: finding.verdict.severity)
    return Finding(name, gravest.verdict, f"written in the other layout; {gravest.tensor}: {gravest.detail}")


def _index(flat: int, shape: tuple[int, ...]) -> str:
    return str([int(axis) for axis in np.unravel_index(flat, shape)] if shape else [])


def _bits(tensor: RawTensor, flat: int) -> str:
    item_size = tensor.data.size // max(1, int(np.prod(tensor.shape)))
    item = tensor.data[flat * item_size : (flat + 1) * item_size]
    return f"0x{int.from_bytes(item.tobytes(), 'little'):0{2 * item_size}x}"

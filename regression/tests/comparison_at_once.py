"""The comparison of tensors that are all at hand: `compare`, which takes them as they come, must equal it."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.elements import compare_tensor
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Finding, Verdict

Tensors = Mapping[str, RawTensor]


def compare_at_once(source: Tensors, export: Iterable[tuple[str, RawTensor]]) -> list[Finding]:
    """Do as `compare` does."""
    exported: dict[str, RawTensor] = {}
    times = Counter[str]()
    unlike: set[str] = set()
    for name, tensor in export:
        if name in source and name in exported:
            one, other = (compare_tensor(source[name], found) for found in (exported[name], tensor))
            unlike |= {name} if one != other else set()
        exported[name] = tensor
        times[name] += 1
    repeated = sorted(name for name, count in times.items() if count > 1)
    findings = [
        finding
        for finding in differing(source, exported)
        if finding.tensor in source.keys() & exported.keys()
    ]
    lost = {name: source[name] for name in source if name not in exported}
    extra = {name: tensor for name, tensor in exported.items() if name not in source}
    lost_experts, extra_experts, known_experts = map(per_expert, (lost, extra, source))
    for name, tensor in lost.items():
        findings.append(find_elsewhere(name, per_expert({name: tensor}), extra_experts))
    for name, tensor in extra.items():
        experts = per_expert({name: tensor}).keys()
        if experts <= lost_experts.keys():
            findings.append(Finding(name, Verdict.FLIP, "the source has these experts in the other layout"))
        elif experts <= known_experts.keys():
            findings.append(Finding(name, Verdict.BOTH_LAYOUTS, "these experts are there twice"))
        else:
            findings.append(Finding(name, Verdict.UNEXPECTED, "the source has no such tensor"))
    return [
        *(
            Finding(name, Verdict.UNEXPECTED, f"came {times[name]} times{', not alike' * (name in unlike)}")
            for name in repeated
        ),
        *sorted(findings, key=lambda finding: finding.tensor),
    ]


def differing(expected: Tensors, actual: Tensors) -> list[Finding]:
    """Compare the tensors that both have, in order of names."""
    results = {name: compare_tensor(expected[name], actual[name]) for name in expected.keys() & actual.keys()}
    return [
        Finding(name, *results[name]) for name in sorted(results) if results[name][0] is not Verdict.EXACT
    ]


def per_expert(tensors: Tensors) -> dict[str, RawTensor]:
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


def find_elsewhere(name: str, experts: Tensors, elsewhere: Tensors) -> Finding:
    """Look for a tensor of the source in those that only the export has."""
    if not experts.keys() <= elsewhere.keys():
        absent = sorted(experts.keys() - elsewhere.keys())
        return Finding(
            name, Verdict.MISSING, "" if absent == [name] else f"{len(absent)} experts' projections"
        )
    findings = differing(experts, elsewhere)
    if not findings:
        return Finding(name, Verdict.FLIP, "written in the other layout, values exact")
    gravest = max(findings, key=lambda finding: finding.verdict.severity)
    return Finding(name, gravest.verdict, f"written in the other layout; {gravest.tensor}: {gravest.detail}")

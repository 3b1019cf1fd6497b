"""What a run was asked for, in words that hold on another machine: commands, and how checkpoints are made."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mtp_checkpoint import inspect
from mtp_checkpoint.errors import CheckpointError
from mtp_fixtures import PRESETS, CheckpointSpec, Scale
from mtp_fixtures.writing.manifest import MANIFEST_NAME, Manifest
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import Grid
from mtp_regression.stages.case import Case


def roundtrip_command(
    *,
    adapter: str,
    device: Device,
    checkpoints: Iterable[str],
    generated: Mapping[str, CheckpointSpec],
    layouts: Iterable[object],
    grid: Grid,
    stages: Iterable[str],
) -> str:
    """Return the command line of a round trip, with the names of checkpoints in place of their paths."""
    words = ["mtpkit", "roundtrip", *checkpoints, *_generated(generated)]
    if adapter == PATCHED_MEGATRON_BRIDGE:
        words.append("--patched")
    elif adapter != MEGATRON_BRIDGE:
        words += ["--adapter", adapter]
    if device is not Device.CPU:
        words += ["--device", device]
    words += [word for layout in layouts for word in ("--parallel", str(layout))]
    if grid is not Grid.DEFAULT:
        words += ["--grid", grid]
    words += [word for stage in stages for word in ("--stage", str(stage))]
    return shlex.join(words)


def _generated(specs: Mapping[str, CheckpointSpec]) -> list[str]:
    """Return the options by which checkpoints are made while they are read; all have one scale."""
    words = [word for name in specs for word in ("--preset", name)]
    for spec in [*specs.values()][:1]:
        if spec.scale is not Scale.TINY:
            words += ["--scale", spec.scale]
        if spec.geometry != spec.preset.geometry(spec.scale):
            words += ["--layers", str(spec.geometry.text.num_hidden_layers)]
    return words


def about(cases: Iterable[Case]) -> dict[str, dict[str, str]]:
    """Say of every checkpoint how a command names it, how it is made, and how it stores its MTP experts.

    Returns:
        By name: `given`, words of the command line; `made`, a command, empty unless it is the checkpoint of a
        preset as `mtpkit generate` writes it; `mtp_experts`, a layout, or empty where it contradicts itself.
    """
    found: dict[str, dict[str, str]] = {}
    for case in cases:
        if case.name not in found:
            spec = case.generated
            found[case.name] = {
                "given": shlex.join(_generated({case.name: spec}) if spec else [case.name]),
                "made": "" if spec or case.wrong else _made(case.checkpoint, case.name),
                "mtp_experts": _mtp_experts(case.checkpoint),
            }
    return found


def _mtp_experts(folder: Path) -> str:
    try:
        return str(inspect(folder).mtp_layout)
    except CheckpointError:
        return ""


def _made(folder: Path, name: str) -> str:
    """Find the preset whose tiny checkpoint a folder is, by its manifest: all other files, and one tensor."""
    try:
        manifest = Manifest.read(folder / MANIFEST_NAME)
    except CheckpointError:
        return ""
    for preset, published in PRESETS.items():
        spec = CheckpointSpec(published)
        plan = spec.plan()
        if {file: _digest([text.encode()]) for file, text in plan.texts.items()} != manifest.files:
            continue
        drawn = min(spec.tensors, key=lambda tensor: tensor.byte_count)
        data = (chunk.tobytes() for chunk in spec.chunks(drawn))
        if drawn.name in manifest.tensors and manifest.tensors[drawn.name].sha256 == _digest(data):
            return shlex.join(["mtpkit", "generate", preset, name])
    return ""


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def conformance_command(adapter: str, only: Sequence[str]) -> str:
    """Return the command line of the suite."""
    return shlex.join(["mtpkit", "conformance", adapter, *(word for one in only for word in ("--only", one))])

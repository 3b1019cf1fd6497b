"""What becomes of one folder: in transformers, in the bridge as it is and patched, in `inspect`, in a run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_checkpoint.inspection.inspection import inspect
from mtp_fixtures import CheckpointSpec
from mtp_regression.adapters.using import Used
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.generated import GeneratedTensors
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World
from mtp_regression.stages.loaded import digest

RIGHT, WRONG, REFUSES, FAILS = "right", "wrong", "refuses", "fails"
CONSISTENT, NOTES, PROBLEM, RUNS = "consistent", "notes", "problem", "runs"


def measure(
    _world: World, folder: Path, sound: Path, spec: CheckpointSpec, adapters: tuple[str, ...]
) -> tuple[str, ...]:
    """Read a folder on one rank, in every way.

    Args:
        folder: The folder.
        sound: The checkpoint as it is usually stored.
        spec: Specification of `sound`: what the folder should hold.
        adapters: Of the bridges; see `adapters.find.find`.

    Returns:
        The cells of transformers, of each adapter, of `inspect` and of the round trip: one of this module's
        constants, for most with what was said in one line.
    """
    expected = GeneratedTensors(spec)
    saved = folder.with_name("saved")
    bridges = [_bridge(name, folder, saved / str(n), expected) for n, name in enumerate(adapters)]
    cells = (_transformers(folder, sound), *bridges, _inspect(folder), _roundtrip(folder))
    return tuple(_line(cell, folder) for cell in cells)


def _bridge(adapter: str, folder: Path, saved: Path, expected: Tensors) -> str:
    bridge = Used(adapter)
    try:
        bridge.begin(folder, Parallel())
        export = {name: RawTensor.from_torch(tensor) for name, tensor in bridge.stream()}
        found = compare(expected, export.items())
        bridge.save(saved)
        found += compare(expected, read_folder(saved).items())
    except Exception as error:
        return f"{FAILS}: {type(error).__name__}: {error}"
    finally:
        bridge.close()
    counts = Counter(str(finding.verdict) for finding in found)
    return f"{WRONG}: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}" if found else RIGHT


def _transformers(folder: Path, sound: Path) -> str:
    try:
        digests, missing = _loaded(folder)
    except Exception as error:
        return f"{FAILS}: {type(error).__name__}: {error}"
    if missing:
        return f"{WRONG}: {missing} missing"
    other = sum(1 for name, value in _loaded(sound)[0].items() if digests.get(name) != value)
    return f"{WRONG}: {other} differ" if other else RIGHT


def _loaded(folder: Path) -> tuple[dict[str, bytes], int]:
    """Return a digest of each parameter of transformers' model, and the number of those not found."""
    import transformers

    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    cls: Any = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    tensors = model.state_dict().items()
    return {name: digest(RawTensor.from_torch(tensor)) for name, tensor in tensors}, len(info["missing_keys"])


def _inspect(folder: Path) -> str:
    try:
        report = inspect(folder)
    except CheckpointError as error:
        return f"{REFUSES}: {error.problems[0]}"
    if report.problems:
        return f"{PROBLEM}: {report.problems[0]}"
    return f"{NOTES}: {report.notes[0]}" if report.notes else CONSISTENT


def _roundtrip(folder: Path) -> str:
    try:
        read_folder(folder)
    except CheckpointError as error:
        return f"{REFUSES}: {error.problems[0]}"
    return RUNS


def _line(cell: str, folder: Path) -> str:
    """Return a cell in one line, without what differs from run to run."""
    return " ".join(cell.replace(str(folder), "FOLDER").split())[:600]

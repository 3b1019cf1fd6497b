"""Lists the parameters that each rank holds under one engine: the stand-in, or the real TransformerEngine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mtp_fixtures import PRESETS, CheckpointSpec, Preset, preset
from mtp_regression.adapters import MEGATRON_BRIDGE
from mtp_regression.adapters.using import Used
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.parallel import GRID, Parallel
from mtp_regression.ranks.world import World

STAND_IN, REAL = "stand-in", "TransformerEngine"
"""The two engines, as a difference names them."""

ATTRIBUTES = ("tensor_model_parallel", "partition_dim", "partition_stride", "sequence_parallel", "allreduce")
"""Attributes of a parameter by which Megatron-Core and bridges know how ranks share it."""

# In this order: torch loads the CUDA libraries that TransformerEngine links to. Its import needs no GPU;
# modules are built on the CPU within `cuda_on_cpu`, as the stand-in's are. Nothing else is stubbed.
REAL_MODULES = ("torch", "transformer_engine.pytorch")
_TIME_LIMIT = 300.0  # seconds a case may take

Parameter = dict[str, Any]
"""A parameter's "name", "shape", "dtype", and those of `ATTRIBUTES` that it has."""


def presets() -> list[Preset]:
    """Return the presets whose models are built: the BF16 ones.

    An FP8 release has the dimensions of a BF16 release, and the bridge builds the same BF16 modules for both;
    what differs is how the checkpoint stores their values.
    """
    return [candidate for candidate in PRESETS.values() if not candidate.quantized]


def parallels_of(model: Preset, grid: Iterable[Parallel] = GRID) -> list[Parallel]:
    """Return the parallel layouts that a model can have: a dense one has no experts to share."""
    return [parallel for parallel in grid if model.is_moe or parallel.ep == parallel.etp == 1]


def describe(name: str, parameter: Any) -> Parameter:
    """List what is compared of a parameter; an attribute that it lacks is left out."""
    described = {
        "name": name,
        "shape": list(parameter.shape),
        "dtype": str(parameter.dtype).removeprefix("torch."),
    }
    return described | {
        attribute: getattr(parameter, attribute) for attribute in ATTRIBUTES if hasattr(parameter, attribute)
    }


def parameters_of_rank(world: World, checkpoint: Path, parallel: Parallel) -> dict[str, Any]:
    """Load a checkpoint on a rank; return "bridge", "engine" and the rank's "parameters"."""
    del world
    bridge = Used(MEGATRON_BRIDGE)
    try:
        bridge.begin(checkpoint, parallel)
        found = [describe(name, parameter) for name, parameter in bridge.parameters()]
    finally:
        bridge.close()
    return {"bridge": f"{bridge.bridge} {bridge.release}", "engine": bridge.engine, "parameters": found}


def dump(engine: str, names: Sequence[str], grid: Sequence[Parallel], folder: Path) -> None:
    """List the parameters of every case under one engine in `FOLDER/ENGINE.json`.

    An engine is chosen once a process: the stand-in steps aside for a TransformerEngine that is imported.

    Args:
        engine: `STAND_IN` or `REAL`.
        names: Names of presets.
        grid: Parallel layouts.
        folder: Where the list and the ranks' logs go.
    """
    preload = [*(REAL_MODULES if engine == REAL else ()), MEGATRON_BRIDGE.partition(":")[0]]
    cases = []
    with tempfile.TemporaryDirectory(prefix="te-parity-") as scratch:
        for name in names:
            checkpoint = CheckpointSpec(preset(name)).write(Path(scratch, name))
            for parallel in parallels_of(preset(name), grid):
                case: dict[str, Any] = {"preset": name, "parallel": str(parallel)}
                try:
                    found = ranks.run(
                        parameters_of_rank,
                        *(checkpoint, parallel),
                        world_size=parallel.ranks,
                        time_limit=_TIME_LIMIT,
                        log_folder=folder / engine / name / str(parallel).replace(" ", "-"),
                        preload=preload,
                    )
                except ranks.RankError as error:
                    case["error"] = str(error)
                else:
                    case |= {key: found[0][key] for key in ("bridge", "engine")}
                    case["ranks"] = [rank["parameters"] for rank in found]
                cases.append(case)
                print(f"{engine}: {name}, {parallel}{': failed' if 'error' in case else ''}", flush=True)
    (folder / f"{engine}.json").write_text(json.dumps({"cases": cases}) + "\n", encoding="utf-8")

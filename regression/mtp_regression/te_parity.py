"""Shows that the stand-in for TransformerEngine has the real one's parameters, rank by rank.

    python -m mtp_regression.te_parity [--preset NAME]... [--parallel LAYOUT]... [--folder FOLDER]

Both engines go through the same code, each in an interpreter of its own: the bridge loads tiny checkpoints on
CPU ranks, and each rank lists its parameters. The two lists are compared name by name. Exits with 0 if they
are equal, with 1 if not, and with 2 if the real TransformerEngine cannot be imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtp_fixtures import PRESETS, CheckpointSpec, Preset, preset
from mtp_regression import adapter, ranks
from mtp_regression.cli import MEGATRON_BRIDGE
from mtp_regression.parallel import GRID, Parallel
from mtp_regression.rendezvous import World

STAND_IN, REAL = "stand-in", "TransformerEngine"
"""The two engines, as a difference names them."""

ATTRIBUTES = ("tensor_model_parallel", "partition_dim", "partition_stride", "sequence_parallel", "allreduce")
"""Attributes of a parameter by which Megatron-Core and bridges know how ranks share it."""

# In this order: torch loads the CUDA libraries that TransformerEngine links to. Its import needs no GPU;
# modules are built on the CPU within `cuda_on_cpu`, as the stand-in's are. Nothing else is stubbed.
_REAL_MODULES = ("torch", "transformer_engine.pytorch")
_TIME_LIMIT = 300.0  # seconds a case may take
_SHOWN = 5

Parameter = dict[str, Any]
"""A parameter's "name", "shape", "dtype", and those of `ATTRIBUTES` that it has."""


def presets() -> list[Preset]:
    """Return the presets whose models are built: the BF16 ones.

    An FP8 release has the dimensions of a BF16 release, and the bridge builds the same BF16 modules for both;
    what differs is how the checkpoint stores their values.
    """
    return [candidate for candidate in PRESETS.values() if not candidate.quantized]


def layouts(model: Preset, grid: Iterable[Parallel] = GRID) -> list[Parallel]:
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


def parameters_of_rank(world: World, checkpoint: str, parallel: str) -> dict[str, Any]:
    """Load a checkpoint on a rank; return "bridge", "engine" and the rank's "parameters"."""
    del world
    bridge = adapter.find(MEGATRON_BRIDGE)()
    try:
        bridge.load(Path(checkpoint), Parallel.parse(parallel))
        found = [describe(name, parameter) for name, parameter in bridge.parameters()]
    finally:
        bridge.close()
    return {"bridge": f"{bridge.bridge} {bridge.release}", "engine": bridge.engine, "parameters": found}


def dump(engine: str, names: Sequence[str], grid: Sequence[str], folder: Path) -> None:
    """List the parameters of every case under one engine in `FOLDER/ENGINE.json`.

    An engine is chosen once a process: the stand-in steps aside for a TransformerEngine that is imported.

    Args:
        engine: `STAND_IN` or `REAL`.
        names: Names of presets.
        grid: Parallel layouts, as `Parallel.parse` reads them.
        folder: Where the list and the ranks' logs go.
    """
    preload = [*(_REAL_MODULES if engine == REAL else ()), MEGATRON_BRIDGE.partition(":")[0]]
    cases = []
    with tempfile.TemporaryDirectory(prefix="te-parity-") as scratch:
        for name in names:
            checkpoint = CheckpointSpec(preset(name)).write(Path(scratch, name))
            for parallel in layouts(preset(name), map(Parallel.parse, grid)):
                case: dict[str, Any] = {"preset": name, "parallel": str(parallel)}
                try:
                    found = ranks.run(
                        parameters_of_rank,
                        *(str(checkpoint), str(parallel)),
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


@dataclass
class Cell:
    """One case, compared.

    Attributes:
        preset: The model.
        parallel: The parallel layout.
        ranks: Number of ranks.
        parameters: Number of parameters compared, over all ranks.
        differences: What is not equal; empty is a pass.
    """

    preset: str
    parallel: str
    ranks: int = 0
    parameters: int = 0
    differences: list[str] = field(default_factory=list)


def compare(stand_in: dict[str, Any], real: dict[str, Any]) -> list[Cell]:
    """Compare what `dump` has listed under each engine.

    The order of a rank's parameters is not compared: a bridge takes them by name.

    Returns:
        A cell for each case that either has.
    """
    dumps = (stand_in, real)
    sides = [{(case["preset"], case["parallel"]): case for case in listed["cases"]} for listed in dumps]
    cells = []
    for key in sides[0] | sides[1]:
        cell = Cell(*key)
        cells.append(cell)
        cases = [side.get(key, {"error": "no such case"}) for side in sides]
        for engine, case in zip((STAND_IN, REAL), cases, strict=True):
            if "error" in case:
                cell.differences.append(f"{engine}: {case['error']}")
            elif (case["engine"] == "TransformerEngine stand-in") != (engine == STAND_IN):
                cell.differences.append(f"{engine}: the modules came from {case['engine']}")
        if cell.differences:
            continue
        pairs = list(zip_longest(*(case["ranks"] for case in cases), fillvalue=[]))
        cell.ranks = len(pairs)
        for rank, (left, right) in enumerate(pairs):
            cell.parameters += len({parameter["name"] for parameter in (*left, *right)})
            cell.differences += (f"rank {rank}: {found}" for found in differences(left, right))
        if not cell.parameters:
            cell.differences.append("no parameters at all")
    return cells


def differences(stand_in: Sequence[Parameter], real: Sequence[Parameter]) -> Iterator[str]:
    """Yield, by name, what differs between the parameters of one rank under the two engines."""
    sides = [{parameter["name"]: parameter for parameter in side} for side in (stand_in, real)]
    for engine, listed, side in zip((STAND_IN, REAL), (stand_in, real), sides, strict=True):
        if len(listed) != len(side):
            yield f"{engine} lists {len(listed) - len(side)} parameters twice"
    for name in sides[0] | sides[1]:
        left, right = (side.get(name) for side in sides)
        if left is None or right is None:
            yield f"{name}: only in {STAND_IN if right is None else REAL}"
            continue
        for what in ("shape", "dtype", *ATTRIBUTES):
            # As JSON: true is not 1, and null is not the same as an attribute that is not there.
            here, there = (json.dumps(side[what]) if what in side else "absent" for side in (left, right))
            if here != there:
                yield f"{name}: {what} is {here} in {STAND_IN}, {there} in {REAL}"


def show(console: Console, cells: Sequence[Cell], title: str) -> None:
    """Print the table, a row a cell, then the first differences of each cell."""
    table = Table(title=title)
    for column in ("preset", "parallel layout", "ranks", "parameters", "differences"):
        table.add_column(column, justify="left" if column.startswith(("preset", "parallel")) else "right")
    told = ""
    for cell in cells:
        found = Text(str(len(cell.differences)), style="bold red" if cell.differences else "green")
        if told and told != cell.preset:
            table.add_section()
        table.add_row(
            cell.preset if told != cell.preset else "",
            *(cell.parallel, str(cell.ranks), str(cell.parameters), found),
        )
        told = cell.preset
    console.print(table)
    for cell in cells:
        for line in cell.differences[:_SHOWN]:
            console.print(f"{cell.preset}, {cell.parallel}: {line}", soft_wrap=True, markup=False)
        if len(cell.differences) > _SHOWN:
            console.print(f"  ... {len(cell.differences)} in all")
    differing = sum(bool(cell.differences) for cell in cells)
    console.print(
        f"{len(cells)} cells, {sum(cell.parameters for cell in cells)} parameters compared: "
        + (f"{differing} cells differ" if differing else "all equal")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Dump both sides, compare them and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mtp_regression.te_parity", description=main.__doc__)
    parser.add_argument("--preset", action="append", choices=[model.name for model in presets()])
    parser.add_argument("--parallel", action="append", type=Parallel.parse, help="such as 'tp2 ep2'")
    parser.add_argument("--folder", type=Path, default=Path("reports/te_parity"), help="for lists and logs")
    options = parser.parse_args(arguments)
    names = options.preset or [model.name for model in presets()]
    grid = [str(parallel) for parallel in options.parallel or GRID]
    options.folder.mkdir(parents=True, exist_ok=True)
    # Where there is a GPU it is hidden, from both sides: they are to differ in the engine alone.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    probe = [sys.executable, "-c", f"import {', '.join(_REAL_MODULES)}"]
    if subprocess.run(probe, env=environment, check=False).returncode:
        print("the real TransformerEngine cannot be imported; `nox -s te_parity` builds it", file=sys.stderr)
        return 2
    dumps = []
    for engine in (STAND_IN, REAL):
        # Not with -m: ranks cannot import a function of the main module.
        code = f"from mtp_regression.te_parity import dump, Path; dump({engine!r}, {names!r}, {grid!r}, "
        code += f"Path({str(options.folder)!r}))"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        dumps.append(json.loads((options.folder / f"{engine}.json").read_text(encoding="utf-8")))
    cells = compare(*dumps)
    about: dict[str, Any] = next((case for case in dumps[1]["cases"] if "engine" in case), {})
    show(Console(), cells, f"{about.get('bridge', '')}: stand-in and {about.get('engine', 'nothing')}")
    return 0 if cells and not any(cell.differences for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Shows that the stand-in for TransformerEngine has the real one's parameters, rank by rank.

    python -m mtp_regression.maintenance.te_parity.run [--preset NAME] [--parallel LAYOUT] [--folder FOLDER]

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mtp_regression.maintenance.te_parity import dump
from mtp_regression.maintenance.te_parity.compare import compare, show
from mtp_regression.maintenance.te_parity.dump import REAL, REAL_MODULES, STAND_IN, presets
from mtp_regression.ranks.parallel import GRID, Parallel


def main(arguments: Sequence[str] | None = None) -> int:
    """Dump both sides, compare them and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mtp_regression.maintenance.te_parity.run", description=main.__doc__
    )
    parser.add_argument("--preset", action="append", choices=[model.name for model in presets()])
    parser.add_argument("--parallel", action="append", type=Parallel.parse, help="such as 'tp2 ep2'")
    parser.add_argument("--folder", type=Path, default=Path("reports/te_parity"), help="for lists and logs")
    options = parser.parse_args(arguments)
    names = options.preset or [model.name for model in presets()]
    grid = [str(parallel) for parallel in options.parallel or GRID]
    options.folder.mkdir(parents=True, exist_ok=True)
    # Where there is a GPU it is hidden, from both sides: they are to differ in the engine alone.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    probe = [sys.executable, "-c", f"import {', '.join(REAL_MODULES)}"]
    if subprocess.run(probe, env=environment, check=False).returncode:
        print("the real TransformerEngine cannot be imported; `nox -s te_parity` builds it", file=sys.stderr)
        return 2
    dumps = []
    for engine in (STAND_IN, REAL):
        # Not with -m: ranks cannot import a function of the main module.
        code = f"from {dump.__name__} import dump, Path; "
        code += f"dump({engine!r}, {names!r}, {grid!r}, Path({str(options.folder)!r}))"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        dumps.append(json.loads((options.folder / f"{engine}.json").read_text(encoding="utf-8")))
    cells = compare(*dumps)
    about: dict[str, Any] = next((case for case in dumps[1]["cases"] if "engine" in case), {})
    show(Console(), cells, f"{about.get('bridge', '')}: stand-in and {about.get('engine', 'nothing')}")
    return 0 if cells and not any(cell.differences for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Shows that the stand-in for TransformerEngine has the real one's parameters, rank by rank.

    python -m mtp_regression.maintenance te-parity [--preset NAME]... [--parallel LAYOUT]... [--folder FOLDER]

Both engines go through the same code, each in an interpreter of its own: the bridge loads tiny checkpoints on
CPU ranks, and each rank lists its parameters. The two lists are compared name by name. Exits with 0 if they
are equal, with 1 if not, and with 2 if the real TransformerEngine cannot be imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mtp_regression.maintenance.te_parity.compare import compare, show
from mtp_regression.maintenance.te_parity.dump import REAL, REAL_MODULES, STAND_IN
from mtp_regression.ranks.parallel import Parallel


def main(names: Sequence[str], grid: Sequence[Parallel], folder: Path) -> int:
    """Dump both sides, compare them and print the table.

    Args:
        names: Names of presets.
        grid: Parallel layouts.
        folder: Where lists and logs go.

    Returns:
        The exit code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Where there is a GPU it is hidden, from both sides: they are to differ in the engine alone.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    probe = [sys.executable, "-c", f"import {', '.join(REAL_MODULES)}"]
    if subprocess.run(probe, env=environment, check=False).returncode:
        print("the real TransformerEngine cannot be imported; `nox -s te_parity` builds it", file=sys.stderr)
        return 2
    dumps = []
    for engine in (STAND_IN, REAL):
        command = [sys.executable, "-m", "mtp_regression.maintenance", "te-parity-dump", engine, str(folder)]
        command += [f"--preset={name}" for name in names] + [f"--parallel={parallel}" for parallel in grid]
        subprocess.run(command, env=environment, check=True)
        dumps.append(json.loads((folder / f"{engine}.json").read_text(encoding="utf-8")))
    cells = compare(*dumps)
    about: dict[str, Any] = next((case for case in dumps[1]["cases"] if "engine" in case), {})
    show(Console(), cells, f"{about.get('bridge', '')}: stand-in and {about.get('engine', 'nothing')}")
    return 0 if cells and not any(cell.differences for cell in cells) else 1

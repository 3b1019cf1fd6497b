"""Times the same cases under plain torchrun and under the kit's fork server, side by side.

    python -m mtp_regression.maintenance bench-roundtrip [PARALLEL]...

Under torchrun every rank of every case imports the bridge anew; here the fork server has imported it
once, which is not counted, and is shown apart.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.adapters import MEGATRON_BRIDGE
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.roundtrip.launch import StartedRanks, run_case
from mtp_regression.stages.case import ONE_LAYOUT, Case

CHECKPOINT = "qwen3.6-35b-a3b"
PARALLELS = (Parallel(ep=2), Parallel(ep=8))
TIMES = 3


def main(parallels: Sequence[Parallel]) -> None:
    """Print a table: a row a parallel layout, seconds each way, and their ratio."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    launch = StartedRanks()
    import_seconds, _ = launch.warm(MEGATRON_BRIDGE)
    table = Table(title=f"{CHECKPOINT}, one case")
    for column in ("parallel", "torchrun", f"here, median of {TIMES}", "ratio"):
        table.add_column(column, justify="left" if column == "parallel" else "right")
    with tempfile.TemporaryDirectory(prefix="mtp-bench-") as scratch:
        folder = CheckpointSpec(preset(CHECKPOINT)).write(Path(scratch, CHECKPOINT))
        for parallel in parallels:
            case = Case(MEGATRON_BRIDGE, folder, parallel)
            here = statistics.median(
                run_case(case, launch, Path(scratch, "logs"), ONE_LAYOUT).seconds for _ in range(TIMES)
            )
            there = _torchrun(case, Path(scratch))
            table.add_row(str(parallel), f"{there:.1f} s", f"{here:.1f} s", f"{there / here:.1f}")
    Console().print(table)
    Console().print(f"the one import, not counted here and part of each torchrun: {import_seconds:.1f} s")


def _torchrun(case: Case, scratch: Path) -> float:
    """Run a case as torchrun's ranks, and return the seconds from its start to its end."""
    start = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={case.parallel.ranks}", "-m", "mtp_regression"),
            *("roundtrip", str(case.checkpoint), "--parallel", str(case.parallel)),
            *("--report", str(scratch / "torchrun.json")),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return time.perf_counter() - start

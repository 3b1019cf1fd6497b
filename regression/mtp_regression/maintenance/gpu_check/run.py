"""Takes the check's steps, in an environment that packed wheels may complete, and shows the results."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from mtp_fixtures import Scale
from mtp_regression.maintenance.gpu_check.pack import unpack
from mtp_regression.maintenance.gpu_check.steps import Check, Result
from mtp_regression.maintenance.gpu_check.table import cell_table, step_table


def main(
    folder: Path, *, wheels: Path | None, on_gpu: bool, minutes: float, steps: Collection[str] = ()
) -> int:
    """Run the check.

    Args:
        folder: Where reports and logs go.
        wheels: A folder of wheels that the environment lacks.
        on_gpu: Without it every step runs on the CPU, at tiny scale.
        minutes: The most that the steps may take together.
        steps: Names of the steps to take; none for all.

    Returns:
        0 if every step showed what it should, else 1.

    Raises:
        FileNotFoundError: There are no wheels in the folder.
    """
    console = Console(width=150)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_COLOR": "1"}
        if wheels:
            unpack(wheels, Path(scratch, "packages"))
            paths = [environment.get("PYTHONPATH", ""), str(Path(scratch, "packages"))]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        check = Check(
            folder.resolve(),
            Path(scratch),
            on_gpu=on_gpu,
            scale=Scale.REAL if on_gpu else Scale.TINY,
            seconds=60 * minutes,
            environment=environment,
        )
        results: list[Result] = []
        for result in check.run(steps):
            results.append(result)
            console.print(f"{result.name}: {'ok' if result.passed else 'FAILED'}, {result.seconds:.0f} s")
            _write(folder / "gpu_check.json", check, results)
    console.print(step_table(results), cell_table(check.reports), highlight=False)
    passed = sum(result.passed for result in results)
    console.print(f"{passed} of {len(results)} steps ok in {sum(result.seconds for result in results):.0f} s")
    return 0 if passed == len(results) else 1


def _write(path: Path, check: Check, results: list[Result]) -> None:
    """Write down what is known so far: a later step may be the last that the machine sees."""
    known = {
        "schema": 1,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "on_gpu": check.on_gpu,
        "steps": [asdict(result) for result in results],
        "reports": check.reports,
    }
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")

"""`python -m mtp_regression.gpu_check`: made ready with --pack, run where there is a GPU."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mtp_fixtures import Scale
from mtp_regression.gpu_check.pack import pack, unpack
from mtp_regression.gpu_check.steps import Check, Result
from mtp_regression.gpu_check.table import cell_table, step_table

WHEELS = Path("build/gpu-wheels")


def main(
    folder: Annotated[Path, typer.Argument(help="Where reports and logs go.")] = Path("reports/gpu-check"),
    wheels: Annotated[
        Path | None, typer.Option(help=f"Packed wheels that this environment lacks, such as {WHEELS}.")
    ] = None,
    pack_wheels: Annotated[bool, typer.Option("--pack", help=f"Make {WHEELS}, and do nothing else.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="The same steps on the CPU, all of them tiny.")] = False,
    minutes: Annotated[float, typer.Option(help="The most that it may take.")] = 8.0,
) -> None:
    """Show on a GPU what only a GPU can show.

    Exits with 0 if every step showed what it should, with 1 if not.
    """
    console = Console(width=150)
    if pack_wheels:
        made = pack(wheels or WHEELS)
        size = sum(path.stat().st_size for path in made) / 1e6
        console.print(f"{len(made)} wheels, {size:.1f} MB, in {wheels or WHEELS}", highlight=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_COLOR": "1"}
        if wheels:
            unpack(wheels, Path(scratch, "packages"))
            paths = [environment.get("PYTHONPATH", ""), str(Path(scratch, "packages"))]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        check = Check(
            folder,
            Path(scratch),
            on_gpu=not cpu,
            scale=Scale.TINY if cpu else Scale.REAL,
            seconds=60 * minutes,
            environment=environment,
        )
        results: list[Result] = []
        for result in check.run():
            results.append(result)
            console.print(f"{result.name}: {'ok' if result.passed else 'FAILED'}, {result.seconds:.0f} s")
            _write(folder / "gpu_check.json", check, results)
    console.print(step_table(results), cell_table(check.reports), highlight=False)
    passed = sum(result.passed for result in results)
    console.print(f"{passed} of {len(results)} steps ok in {sum(result.seconds for result in results):.0f} s")
    raise typer.Exit(0 if passed == len(results) else 1)


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


if __name__ == "__main__":
    typer.run(main)

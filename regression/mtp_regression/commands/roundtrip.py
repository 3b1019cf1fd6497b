"""The command `mtpkit roundtrip`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.commands.console import Json, fail, read_parallel, refuse, working_folder_importable
from mtp_regression.ranks.devices import Device
from mtp_regression.stages.case import Stage


def roundtrip(
    context: typer.Context,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoint folders.", show_default="a tiny one of each preset"),
    ] = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(help="A parallel layout, like 'tp2 ep2'; may be repeated.", show_default="a grid"),
    ] = None,
    adapter: Annotated[
        str, typer.Option(help="The bridge, as package.module:Class; found in the working folder as well.")
    ] = MEGATRON_BRIDGE,
    patched: Annotated[
        bool, typer.Option("--patched", help="Megatron-Bridge with mtp_bridge_patch applied.")
    ] = False,
    device: Annotated[
        Device, typer.Option(help="gloo; NCCL, a GPU for each rank; or gloo with ranks that share GPUs.")
    ] = Device.CPU,
    stages: Annotated[
        list[Stage] | None,
        typer.Option("--stage", help="What to check; may be repeated.", show_default="all"),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds a case may take.")] = 120.0,
    report_path: Annotated[Path, typer.Option("--report", help="Where the JSON report goes.")] = Path(
        "reports/roundtrip.json"
    ),
    compare: Annotated[
        Path | None, typer.Option(help="An earlier report, such as a CPU's: its verdicts must be the same.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the bridge saves, in kept/ beside the report.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take checkpoints through a bridge and back, and compare every byte.

    Exits with 0 if every cell is exact but for declared exceptions, with 1 if not, and with 2 if it
    could not run.
    """
    if patched:
        refuse(context, ["adapter"], "with --patched, which takes Megatron-Bridge")
    parallels = [read_parallel(text) for text in parallel or ()]
    try:
        from rich.console import Console

        from mtp_regression.roundtrip.request import CannotRunError, Request  # these import torch
        from mtp_regression.roundtrip.run import round_trips
    except ModuleNotFoundError as error:
        fail(f"{error}; install the environment of a bridge, as CONTRIBUTING.md shows")

    request = Request(
        checkpoints=checkpoints or [],
        parallels=parallels,
        stages=stages or [],
        adapter=PATCHED_MEGATRON_BRIDGE if patched else adapter,
        device=device,
        time_limit=time_limit,
        report_path=report_path,
        compare_path=compare,
        keep=keep,
    )
    try:
        with working_folder_importable():
            report = round_trips(request, Console(stderr=as_json))
    except CannotRunError as error:
        fail(str(error))
    if report is None:  # a rank that torchrun or Slurm started, and not the first
        return
    if as_json:
        print(json.dumps(report))
    raise typer.Exit(0 if report["passed"] else 1)

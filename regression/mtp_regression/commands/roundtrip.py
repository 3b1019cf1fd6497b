"""The command `mtpkit roundtrip`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from mtp_fixtures import PRESETS, CheckpointSpec, Scale, preset
from mtp_fixtures.model.scaling import with_decoder_layers
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.commands.console import Json, read_layouts, refuse
from mtp_regression.commands.running import Html, Keep, run
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import Grid
from mtp_regression.stages.case import Stage


def roundtrip(
    context: typer.Context,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoint folders.", show_default="a tiny one of each preset"),
    ] = None,
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", help="A checkpoint made while it is read, on no disk; may be repeated."),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="Dimensions of the presets; real: the published ones.")
    ] = Scale.TINY,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Decoder layers of the presets.", show_default="all")
    ] = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(
            help="A layout, like 'tp2 ep2' or 'pp2 Et|tttmL', or two, like 'ep2 to tp2', for a Megatron "
            "checkpoint; may be repeated.",
            show_default="a grid",
        ),
    ] = None,
    grid: Annotated[
        Grid, typer.Option(help="Layouts without --parallel: the fewest that see all that is seen, or all.")
    ] = Grid.DEFAULT,
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
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds a case may take.", show_default="300; 3600 at real scale")
    ] = None,
    report_path: Annotated[Path, typer.Option("--report", help="Where the JSON report goes.")] = Path(
        "reports/roundtrip.json"
    ),
    compare: Annotated[
        Path | None, typer.Option(help="An earlier report, such as a CPU's: its verdicts must be the same.")
    ] = None,
    html: Html = None,
    keep: Keep = False,
    as_json: Json = False,
) -> None:
    """Take checkpoints through a bridge and back, and compare every byte.

    Exits with 0 if every cell is exact but for declared exceptions, with 1 if not, and with 2 if it
    could not run.
    """
    if patched:
        refuse(context, ["adapter"], "with --patched, which takes Megatron-Bridge")
    if presets:
        refuse(context, ["checkpoints"], "with --preset")
    else:
        refuse(context, ["scale", "layers"], "without --preset")
    if parallel:
        refuse(context, ["grid"], "with --parallel")
    generated = _specs(presets or (), scale, layers)
    parallels = [read_layouts(text) for text in parallel or ()]
    from mtp_regression.roundtrip.request import Request

    request = Request(
        checkpoints=checkpoints or [],
        generated=generated,
        parallels=parallels,
        grid=grid,
        stages=stages or [],
        adapter=PATCHED_MEGATRON_BRIDGE if patched else adapter,
        device=device,
        time_limit=time_limit,
        report_path=report_path,
        compare_path=compare,
        keep=keep,
    )
    run(request, as_json=as_json, html=html)


def _specs(names: Iterable[str], scale: Scale, layers: int | None) -> dict[str, CheckpointSpec]:
    """Specify a checkpoint of each preset."""
    specs: dict[str, CheckpointSpec] = {}
    for name in names:
        if name not in PRESETS or name in specs:
            what = "given twice" if name in specs else f"none of {', '.join(PRESETS)}"
            raise typer.BadParameter(f"{name!r} is {what}", param_hint="--preset")
        geometry = preset(name).geometry(scale)
        if layers is not None:
            geometry = with_decoder_layers(geometry, layers)
        specs[name] = CheckpointSpec(preset(name), scale=scale, dimensions=geometry)
        try:
            geometry.check(distinct=False)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--layers") from None
    return specs

"""`mtpkit`: the kit's command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from mtp_bridge_patch.detection import ExpertLayout
from mtp_fixtures import PRESETS, CheckpointSpec, ValueRange, preset

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)

MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:MegatronBridge"
PATCHED_MEGATRON_BRIDGE = "mtp_regression.adapters.megatron_bridge:PatchedMegatronBridge"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")]


@app.callback()
def mtpkit() -> None:
    """Fixtures and a regression suite for bridges that carry MTP experts."""


@app.command()
def generate(
    preset_name: Annotated[str, typer.Argument(metavar="PRESET", help=f"One of {', '.join(PRESETS)}.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    mtp_experts: Annotated[
        ExpertLayout | None, typer.Option(help="Layout of the MTP experts.", show_default="as published")
    ] = None,
    decoder_experts: Annotated[
        ExpertLayout, typer.Option(help="Layout of the decoder's experts.")
    ] = ExpertLayout.PACKED,
    seed: Annotated[int, typer.Option(help="Seed of the values.")] = 0,
    values: Annotated[
        ValueRange, typer.Option(help="Values that a bridge can carry in BF16, or some that it must round.")
    ] = ValueRange.EXACT,
    as_json: Json = False,
) -> None:
    """Write a tiny checkpoint, shaped and named as the published one."""
    if preset_name not in PRESETS:
        raise typer.BadParameter(f"{preset_name!r} is none of {', '.join(PRESETS)}", param_hint="PRESET")
    spec = CheckpointSpec(
        preset(preset_name),
        mtp_experts=mtp_experts,
        decoder_experts=decoder_experts,
        seed=seed,
        value_range=values,
    )
    try:
        spec.write(folder)
    except FileExistsError as error:
        raise typer.BadParameter(str(error), param_hint="FOLDER") from None
    tensors = spec.tensors()
    size = sum(tensor.byte_count for tensor in tensors)
    if as_json:
        print(json.dumps({"folder": str(folder), "tensors": len(tensors), "bytes": size}))
    else:
        Console().print(f"{folder}: {len(tensors)} tensors, {size:,} bytes", highlight=False, soft_wrap=True)


@app.command()
def roundtrip(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoint folders.", show_default="a tiny one of each preset"),
    ] = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(help="A parallel layout, like 'tp2 ep2'; may be repeated.", show_default="a grid"),
    ] = None,
    adapter: Annotated[str, typer.Option(help="The bridge, as package.module:Class.")] = MEGATRON_BRIDGE,
    patched: Annotated[
        bool, typer.Option("--patched", help="Megatron-Bridge with mtp_bridge_patch applied.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu (gloo) or cuda (NCCL).")] = "cpu",
    time_limit: Annotated[float, typer.Option(help="Seconds a case may take.")] = 120.0,
    report: Annotated[Path, typer.Option(help="Where the JSON report goes.")] = Path(
        "reports/roundtrip.json"
    ),
    as_json: Json = False,
) -> None:
    """Take checkpoints through a bridge and back, and compare every byte.

    Exits with 0 if every cell is exact but for declared exceptions, with 1 if not, and with 2 if it
    could not run.
    """
    try:
        from mtp_regression import run  # imports torch
    except ModuleNotFoundError as error:
        _fail(f"{error}; install the environment of a bridge, as CONTRIBUTING.md shows")

    try:
        outcome = run.run(
            checkpoints=checkpoints or [],
            parallels=parallel or [],
            adapter=PATCHED_MEGATRON_BRIDGE if patched else adapter,
            device=device,
            time_limit=time_limit,
            report_path=report,
            console=Console(stderr=as_json),
        )
    except run.CannotRunError as error:
        _fail(str(error))
    if outcome is None:  # a rank that torchrun or Slurm started, and not the first
        return
    if as_json:
        print(json.dumps(outcome))
    raise typer.Exit(0 if outcome["passed"] else 1)


def _fail(message: str) -> NoReturn:
    console = Console(stderr=True)
    console.print(f"mtpkit: {message}", style="bold red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(2) from None


def main() -> None:
    """Run the command."""
    app()

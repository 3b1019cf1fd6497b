"""The commands of `mtpkit` that make checkpoints and check them; torch is not needed.

rich is imported where it is used: it takes longer than making a tiny checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_fixtures import (
    PRESETS,
    CheckpointSpec,
    Scale,
    Sharding,
    ValueRange,
    Variant,
    preset,
    write_revision,
)
from mtp_regression.commands.console import (
    Json,
    check_names,
    ended_by_sigterm,
    fail,
    progress_bar,
    refuse,
)


def generate(
    context: typer.Context,
    preset_name: Annotated[
        str, typer.Argument(metavar="PRESET", help="A published model; `mtpkit presets` lists them.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="A new folder; none with --hub-cache.", show_default=False),
    ] = None,
    hub_cache: Annotated[
        Path | None, typer.Option(help="Write a commit into a cache of huggingface_hub.", show_default="none")
    ] = None,
    repo: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="The commit's repository.", show_default=False)
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch or tag to point at the commit.", show_default="none")
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="Tiny, for TP 4 (wide) or of equal dimensions (square); or as published.")
    ] = Scale.TINY,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="True shapes over holes: no bytes on disk, all values zero.")
    ] = False,
    mtp_experts: Annotated[
        ExpertLayout | None, typer.Option(help="Layout of the MTP experts.", show_default="as published")
    ] = None,
    decoder_experts: Annotated[
        ExpertLayout | None,
        typer.Option(help="Layout of the decoder's experts.", show_default="as published"),
    ] = None,
    layer_types: Annotated[
        str | None,
        typer.Option(help="Each layer's attention, linear or full: LLLFL.", show_default="as published"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="A field of config.json; may be repeated."),
    ] = None,
    mtp_layers: Annotated[
        int | None, typer.Option(min=0, help="Number of MTP layers.", show_default="as published")
    ] = None,
    text_only: Annotated[bool, typer.Option("--text-only", help="Leave the vision tower out.")] = False,
    variant: Annotated[
        Variant | None, typer.Option(help="A re-save by transformers.", show_default="as published")
    ] = None,
    fault: Annotated[str | None, typer.Option(help="Break it on purpose; `mtpkit faults` lists how.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--folder", metavar="KIND", help="As people have it; `mtpkit faults` lists kinds."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the values.")] = 0,
    value_range: Annotated[
        ValueRange,
        typer.Option(help="Values that BF16 carries, some that it rounds, or also the largest and NaN."),
    ] = ValueRange.EXACT,
    sharding: Annotated[Sharding, typer.Option(help="Where the MTP tensors are.")] = Sharding.PUBLISHED,
    shard_limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Bytes at which a shard is closed.", show_default="as published; tiny: 2 MB"
        ),
    ] = None,
    manifest: Annotated[bool, typer.Option(help="Write mtp_manifest.json, for `mtpkit verify`.")] = True,
    as_json: Json = False,
) -> None:
    """Write a checkpoint, shaped and named as the published one."""
    check_names([preset_name], PRESETS, "PRESET")
    write = _writer(context, folder, fault, kind, hub_cache, repo, revision)
    if sparse:
        ignored = ["seed", "value_range", *(["manifest"] if manifest else [])]
        refuse(context, ignored, "with --sparse: holes have no values")
    if sharding is Sharding.SINGLE:
        refuse(context, ["shard_limit"], "with --sharding single")
    if mtp_layers == 0 or variant in (Variant.PER_EXPERT_DECODER, Variant.MTP_DROPPED):
        refuse(context, ["mtp_experts"], "without MTP tensors")
        if sharding in (Sharding.MTP_APART, Sharding.MTP_WITH_LM_HEAD):
            refuse(context, ["sharding"], "without MTP tensors")
    spec = CheckpointSpec(
        preset(preset_name),
        mtp_experts=mtp_experts,
        decoder_experts=decoder_experts,
        scale=scale,
        layer_types=layer_types,
        config_changes=tuple(changes or ()),
        mtp_layers=mtp_layers,
        text_only=text_only,
        variant=variant,
        seed=seed,
        value_range=value_range,
        sharding=sharding,
        shard_limit=shard_limit,
    )
    try:
        size = sum(tensor.byte_count for tensor in spec.tensors)
        with ended_by_sigterm(), progress_bar(0 if sparse or as_json else size) as advance:
            written = write(spec, sparse=sparse, manifest=manifest, progress=advance)
    except FileExistsError as error:
        raise typer.BadParameter(str(error), param_hint="FOLDER") from None
    except (OSError, ValueError) as error:
        fail(str(error))
    if fault or kind:
        _say_fault(written, fault or kind or "", as_json=as_json)
    elif as_json:
        print(json.dumps({"folder": str(written), "tensors": len(spec.tensors), "bytes": size}))
    else:
        what = "holes" if sparse else "bytes"
        print(f"{written}: {len(spec.tensors):,} tensors, {size:,} {what}")


def verify(
    folder: Annotated[Path, typer.Argument(help="A checkpoint's folder, with its mtp_manifest.json.")],
    as_json: Json = False,
) -> None:
    """Compare a checkpoint with its manifest.

    Exits with 0 if nothing differs, with 1 and every difference if something does, and with 2 if there is
    no manifest.
    """
    from mtp_fixtures.writing.verify import verify as differences_of

    try:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        with progress_bar(0 if as_json else size) as advance:
            differences = differences_of(folder, progress=advance)
    except CheckpointError as error:
        fail(str(error))
    if as_json:
        print(json.dumps({"folder": str(folder), "differences": differences}))
    else:
        for difference in differences:
            print(difference)
        told = f"{len(differences)} difference{'s' * (len(differences) != 1)}"
        print(f"{folder}: {told if differences else 'as its manifest says'}")
    raise typer.Exit(1 if differences else 0)


def inspect(
    path: Annotated[Path, typer.Argument(help="A checkpoint's folder, or one safetensors file.")],
    index_only: Annotated[
        bool, typer.Option("--index-only", help="Look at the names in the index alone: no shapes, no dtypes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell how a checkpoint stores its routed experts; no tensor is read.

    Exits with 0 if keys, shapes and config agree, with 1 and every contradiction if they do not, and with 2
    if it cannot be read.
    """
    from mtp_checkpoint.files.index import INDEX_NAME
    from mtp_checkpoint.inspection.inspection import inspect as report_of

    if index_only and not (path / INDEX_NAME).exists():
        raise typer.BadParameter(f"{path} has no {INDEX_NAME}", param_hint="--index-only")
    try:
        report = report_of(path, index_only=index_only)
    except CheckpointError as error:
        fail(str(error))
    if as_json:
        print(json.dumps(report.as_json()))
    else:
        print(report)
    raise typer.Exit(1 if report.problems else 0)


def _writer(
    context: typer.Context,
    folder: Path | None,
    fault: str | None,
    kind: str | None,
    hub_cache: Path | None,
    repo: str | None,
    revision: str | None,
) -> Callable[..., Path]:
    """Return what writes a checkpoint where the command line says."""
    if hub_cache is not None:
        refuse(context, ["folder", "fault", "kind"], "with --hub-cache")
        if repo is None:
            raise typer.BadParameter("it needs --repo", param_hint="--hub-cache")
        return partial(write_revision, cache=hub_cache, repo=repo, revision=revision)
    refuse(context, ["repo", "revision"], "without --hub-cache")
    if folder is None:
        raise typer.BadParameter("is missing, and so is --hub-cache", param_hint="FOLDER")
    if fault is None and kind is None:
        return partial(CheckpointSpec.write, folder=folder)
    return partial(_write_as, fault=fault, kind=kind, folder=folder)


def _write_as(
    spec: CheckpointSpec, *, fault: str | None, kind: str | None, folder: Path, sparse: bool, **options: Any
) -> Path:
    from mtp_fixtures.faults.table import FAULTS, FOLDERS
    from mtp_fixtures.faults.write import write_faulty

    if fault and kind:
        raise typer.BadParameter("a checkpoint has a fault or a kind of folder", param_hint="--folder")
    name, known, option = (fault, FAULTS, "--fault") if fault else (kind or "", FOLDERS, "--folder")
    check_names([name], known, option)
    if sparse:
        raise typer.BadParameter("such a checkpoint has bytes; leave --sparse out", param_hint=option)
    return write_faulty(spec, name, folder, **options)


def _say_fault(folder: Path, name: str, *, as_json: bool) -> None:
    from mtp_fixtures.faults.table import fault as find
    from mtp_regression.commands.listings import fault_fields

    fault = find(name)
    if as_json:
        print(json.dumps({"folder": str(folder), **fault_fields(fault)}))
    else:
        print(f"{folder}: {fault.description}\nA loader should say: {fault.expected}")

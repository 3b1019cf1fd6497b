"""The command `mtpkit coverage`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtp_bridge_patch.releases import installed_release, public_release
from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX, ExpertLayout
from mtp_fixtures import PRESETS, CheckpointSpec, Scale, preset
from mtp_regression.commands.console import ENVIRONMENT, Json, fail, read_parallel, refuse
from mtp_regression.coverage.number_ranges import with_ranges
from mtp_regression.ranks.parallel import Parallel

if TYPE_CHECKING:
    from mtp_regression.coverage.judgement import Coverage, RankParameters


def coverage(
    context: typer.Context,
    preset_name: Annotated[
        str, typer.Argument(metavar="PRESET", help="A published model; `mtpkit presets` lists them.")
    ],
    mtp_experts: Annotated[
        ExpertLayout | None, typer.Option(help="Layout of the MTP experts.", show_default="as published")
    ] = None,
    mtp_layers: Annotated[
        int | None, typer.Option(min=0, help="Number of MTP layers.", show_default="as published")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="The published dimensions, or tiny ones.")] = Scale.REAL,
    parallel_text: Annotated[
        str, typer.Option("--parallel", help="The parallel layout, like 'tp2 ep2'.")
    ] = "tp1",
    bridge: Annotated[
        str | None, typer.Option(metavar="RELEASE", help="The release that must be installed.")
    ] = None,
    patched: Annotated[
        bool, typer.Option("--patched", help="Megatron-Bridge with mtp_bridge_patch applied.")
    ] = False,
    time_limit: Annotated[float, typer.Option(help="Seconds that all ranks together may take.")] = 600.0,
    as_json: Json = False,
) -> None:
    """Prove that a load takes every key once, and fills every parameter of every rank once.

    No weight is read or held: the checkpoint is one of holes, and the model has no memory.

    Exits with 0 if all is covered, with 1 and every name if not, and with 2 if it could not run.
    """
    if preset_name not in PRESETS:
        raise typer.BadParameter(f"{preset_name!r} is none of {', '.join(PRESETS)}", param_hint="PRESET")
    if mtp_layers == 0:
        refuse(context, ["mtp_experts"], "without MTP tensors")
    parallel = read_parallel(parallel_text)
    start = time.perf_counter()
    release = _release(bridge)
    try:
        spec = CheckpointSpec(
            preset(preset_name), scale=scale, mtp_experts=mtp_experts, mtp_layers=mtp_layers
        )
        with tempfile.TemporaryDirectory(prefix="mtp-coverage-") as scratch:
            folder = spec.write(Path(scratch, preset_name), sparse=True, manifest=False)
            ranks = _ranks(folder, parallel, patched=patched, time_limit=time_limit)
    except (OSError, ValueError) as error:
        fail(str(error))

    from mtp_bridge_patch import status_of
    from mtp_regression.coverage.judgement import cover

    layers = spec.geometry.text.mtp_num_hidden_layers
    fixes = {fix.id for fix in status_of().applied} if patched else set()
    shapes = {tensor.name: tensor.shape for tensor in spec.tensors}
    if "fp8-per-expert" in fixes:  # takes each scale with its weight, past the mappings
        shapes = {
            key: shape
            for key, shape in shapes.items()
            if not (key.endswith(SCALE_SUFFIX) and key.removesuffix(SCALE_SUFFIX) in shapes)
        }
    shares = max(layers, 1) if "mtp-any-layer" in fixes else 1
    found = cover(shapes, ranks, parallel, mtp_layers_share=shares)
    document = {
        "preset": preset_name,
        "scale": str(scale),
        "mtp_experts": str(mtp_experts or spec.preset.mtp_experts) if spec.preset.is_moe else None,
        "mtp_layers": layers,
        "bridge": f"megatron-bridge {release}{'+patch' if patched else ''}",
        "parallel": str(parallel),
        "ranks": parallel.ranks,
        "covered": found.covered,
        "keys": len(spec.tensors),
        **asdict(found),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if as_json:
        print(json.dumps(document))
    else:
        for line in _lines(document, found, ranks):
            print(line)
    raise typer.Exit(0 if found.covered else 1)


def _release(wanted: str | None) -> str:
    release = installed_release()
    if release is None:
        fail(f"megatron-bridge is not installed; {ENVIRONMENT}")
    if wanted is not None and wanted not in (release, public_release(release)):
        fail(f"megatron-bridge {wanted} is asked for, and {release} is installed")
    return release


def _ranks(folder: Path, parallel: Parallel, *, patched: bool, time_limit: float) -> list[RankParameters]:
    try:
        from mtp_regression.coverage.tasks import parameter_tasks
        from mtp_regression.ranks import run as ranks  # imports torch
    except ModuleNotFoundError as error:
        fail(f"{error}; {ENVIRONMENT}")
    try:
        return parameter_tasks(
            folder, parallel, patched=patched, time_limit=time_limit, log_folder=folder.parent / "logs"
        )
    except ranks.RankError as error:  # its logs go with the checkpoint
        fail(f"{parallel}: {str(error).partition(chr(10))[0]}\n{error.traceback.strip()}")
    except ranks.PreloadError as error:
        fail(str(error))


def _lines(document: dict[str, Any], found: Coverage, ranks: Sequence[RankParameters]) -> Iterator[str]:
    layout = f", MTP experts {document['mtp_experts']}" if document["mtp_experts"] else ""
    yield f"{document['preset']}{layout}, {document['parallel']}, {document['bridge']}"
    for rank, parameters, filled in zip(ranks, found.parameters, found.filled, strict=True):
        place = " ".join(f"{name}{number}" for name, number in asdict(rank.place).items())
        yield f"  rank {rank.rank} ({place}): {filled:,} of {parameters:,} parameters filled once"
    yield f"  {document['keys']:,} keys, {found.pieces:,} with each expert's slice of packed ones"
    yield from _listed("parameters without a mapping", found.unmapped)
    yield from _listed("parameters that need what is not there", found.starved)
    lacking = {key: None for keys in found.starved.values() for key in keys}
    yield from _listed("keys that these need", lacking)
    yield from _listed("parameters that no task fills, though their keys are there", found.unfilled)
    yield from _listed("parameters that several tasks fill", found.refilled)
    for rank_number, count in found.strays.items():
        yield f"rank {rank_number}: {count:,} tasks fill something that is no parameter"
    yield from _listed("keys that no parameter takes", found.unused)
    yield from _listed("keys that several parameters take", found.shared)
    for piece, (count, due) in found.copies.items():
        yield f"{piece}: taken by {count} ranks, held by {due}"
    verdict = "covered: every key and every parameter once" if found.covered else "not covered"
    yield f"{verdict}; {document['seconds']} s"


def _listed(what: str, names: Iterable[str]) -> Iterator[str]:
    every = list(names)
    if every:
        yield f"{len(every):,} {what}:"
        yield from (f"  {name}" for name in with_ranges(every))

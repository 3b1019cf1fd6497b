"""Kinds of batches, and context parallelism: what each release computes of them, against transformers.

The round trip has the first kind alone: the others would cost more than they tell of weights.
What is known of a release is in `known_kinds/RELEASE.json`; a difference is an error in both directions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.forward.batches import Batch, draw, packed, padded_before, positioned
from mtp_regression.maintenance.fields.changes import MODELS
from mtp_regression.maintenance.fields.measure import measure
from mtp_regression.maintenance.known import OTHERS, RELEASES, conclude, differences, known_of, known_of_all
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.parallel import Parallel

KNOWN = Path(__file__).with_name("known_kinds")
FAULTS = "mtp_regression.maintenance.forward.faults"
AGREES, DIFFERS = "agrees", "differs"
_MODULE = PATCHED_MEGATRON_BRIDGE.partition(":")[0]


@dataclass(frozen=True)
class Kind:
    """One kind of batch.

    Attributes:
        draw: Draws it.
        about: What it is, for the page.
        parallel: The layout.
        faults: Adapters of `forward.faults`, which must differ where a release agrees.
        models: Those that take it, of `changes.MODELS`.
    """

    draw: Callable[[Mapping[str, Any], int], Batch]
    about: str
    parallel: Parallel = Parallel()  # noqa: RUF009 - it is frozen
    faults: tuple[str, ...] = ()
    models: tuple[str, ...] = tuple(MODELS)


_CP2 = Parallel(cp=2)
_CP2_EP2 = Parallel(cp=2, ep=2)
_MOE, _SEEING = ("MoE", "text-only MoE"), ("MoE", "dense")
KINDS: Mapping[str, Kind] = {
    "padded": Kind(
        draw, "rows with padding behind them: the batch of the round trip", faults=("PadsAttendedTo",)
    ),
    "padded before": Kind(
        padded_before,
        "the same, padding before them: Megatron's causal attention and gated delta rule have no mask for it",
    ),
    "positions": Kind(
        positioned,
        "`position_ids` in time, height and width",
        faults=("RotaryAxesSwapped",),
        models=_SEEING,
    ),
    "packed": Kind(
        packed,
        "two documents in one row, `PackedSeqParams`; one row each in transformers",
        faults=("DocumentsAttendedTo", "StateCarriedOver"),
    ),
    "cp2": Kind(draw, "as `padded`, on two context-parallel ranks", _CP2, ("ChunksOfTheNextRank",)),
    "cp2 ep2": Kind(
        draw, "as `cp2`, with expert parallelism on the same ranks", _CP2_EP2, ("ChunksOfTheNextRank",), _MOE
    ),
    "packed, cp2": Kind(
        packed,
        "as `packed`, on two context-parallel ranks, with chunks of each document",
        _CP2,
        ("DocumentsAttendedTo", "StateCarriedOver", "ChunksOfTheNextRank"),
    ),
}
_TELLING = "packed", "context parallel", "context-parallel"
"""Words of an error that tells what it refuses."""


def names() -> Iterator[str]:
    """Yield the names of all rows, "model: kind"."""
    for model in MODELS:
        for name, kind in KINDS.items():
            if model in kind.models:
                yield f"{model}: {name}"


def main(*, update: bool) -> int:
    """Run all rows with the patched bridge, compare, and update what is known if asked to.

    Returns:
        0 if all is as known and no fault agrees; 1 if not.
    """
    release = metadata.version("megatron-bridge")
    found, problems = {}, []
    ranks.warm([_MODULE, FAULTS])
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        every = [*names()]
        for name, (cell, *faulty) in zip(every, threads.map(_cells, every), strict=True):
            found[name] = cell
            faults = KINDS[name.partition(": ")[2]].faults
            print(f"{name}: {cell}; wrong ones: {', '.join(faulty) or 'none'}", flush=True)
            if cell == AGREES:
                unseen = [fault for fault, of in zip(faults, faulty, strict=True) if of != DIFFERS]
                problems += [f"{name}: {fault} is not seen" for fault in unseen]
    known = known_of(KNOWN, release, found, names(), update=update)
    return conclude(f"{len(found)} kinds on {release}", [*problems, *differences(known, found)])


def _cells(name: str) -> tuple[str, ...]:
    """Return what the patched bridge makes of a row, and each of its faults, on the worst of the ranks."""
    model, _, kind_name = name.partition(": ")
    kind = KINDS[kind_name]
    adapters = (PATCHED_MEGATRON_BRIDGE, *(f"{FAULTS}:{fault}" for fault in kind.faults))
    with tempfile.TemporaryDirectory(prefix="mtp-kinds-") as scratch:
        checkpoint = MODELS[model].write(Path(scratch, "checkpoint"), manifest=False)
        measured = ranks.run(
            measure,
            *(checkpoint, adapters, _TELLING, kind.draw, kind.parallel),
            world_size=kind.parallel.ranks,
            time_limit=120,
            log_folder=Path(scratch, "logs"),
            preload=[_MODULE, FAULTS],
        )
    refusals = {one.refusal for one in measured}
    if refusals != {""}:
        raise RuntimeError(f"{name}: transformers raises {refusals}")
    cells = zip(*(one.cells for one in measured), strict=True)
    return tuple(next((cell for cell in of if cell != AGREES), AGREES) for of in cells)


def section() -> Iterator[str]:
    """Yield the lines of the page's section, as Markdown."""
    known: dict[str, dict[str, str]] = known_of_all(KNOWN)
    yield "## Kinds of batches, and context parallelism\n"
    yield "The same comparison, patched, of other batches. A release **refuses** with an error that names"
    yield "what it does not take.\n"
    yield "| batch | models | " + " | ".join(RELEASES) + " |"
    yield "|---" * (2 + len(RELEASES)) + "|"
    merged: dict[tuple[str, ...], list[str]] = {}
    for name in names():
        model, _, of_kind = name.partition(": ")
        cells = (known[release][name].partition(":")[0] for release in RELEASES)
        merged.setdefault((of_kind, *cells), []).append(model)
    for name, kind in KINDS.items():
        for (of, *words), models in merged.items():
            if of == name:
                whose = "all" if len(models) == len(MODELS) else ", ".join(models)
                yield f"| {name}: {kind.about} | {whose} | {' | '.join(words)} |"
    yield ""
    for release, like in OTHERS.items():
        others = [name for name in known[release] if known[release][name] != known[like][name]]
        yield f"- {release} is as {like}" + (f", but for: {'; '.join(others)}" if others else "")
    errors: dict[str, list[str]] = {}
    for release in RELEASES:
        for name, cell in known[release].items():
            if ": " in cell:
                errors.setdefault(cell.partition(": ")[2], []).append(f"{release}, {name}")
    for error, where in errors.items():
        yield f"- `{error.replace('`', '')}` ({'; '.join(where)})"

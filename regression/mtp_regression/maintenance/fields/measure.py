"""What one changed checkpoint computes: by transformers, and by the bridge as it is and patched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_regression.adapters.using import Used
from mtp_regression.comparison.generated import tensors_of
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.forward.agreement import BOUND, Computed, differences
from mtp_regression.forward.batches import Batch, draw
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World
from mtp_regression.stages.loaded import digest

_ONE_RANK = Parallel()


@dataclass(frozen=True)
class Measured:
    """What became of one checkpoint.

    Attributes:
        reference: A digest of each of transformers' logits, by name; none where it raised.
        refusal: What it raised, in one line; "" if nothing.
        cells: Of each adapter "agrees", "differs", "computes" where there is no reference, or "refuses: " and
            "fails: " with what it raised, as that tells of a field that is changed or does not.
    """

    reference: Mapping[str, bytes]
    refusal: str
    cells: tuple[str, ...]


def measure(
    _world: World,
    checkpoint: Path,
    adapters: tuple[str, ...],
    fields: tuple[str, ...],
    drawn: Callable[[Mapping[str, Any], int], Batch] = draw,
    parallel: Parallel = _ONE_RANK,
) -> Measured:
    """Compute on a rank.

    Args:
        checkpoint: The checkpoint's folder.
        adapters: Of the bridges; see `adapters.find.find`.
        fields: Names of the fields that are changed.
        drawn: Draws the batch; see `forward.batches`.
        parallel: The layout, all of whose ranks are called, and have logits.
    """
    from mtp_regression.forward.reference import reference_of  # imports transformers

    config = json.loads((checkpoint / CONFIG_NAME).read_text(encoding="utf-8"))
    reference: Computed | None = None
    refusal = ""
    try:
        batch, reference = reference_of(checkpoint, config, tensors_of(checkpoint, None), drawn)
    except Exception as error:
        refusal, batch = _line(error, checkpoint), drawn(config, 0)
    case = checkpoint, parallel, batch, reference, fields
    cells = tuple(_cell(adapter, *case) for adapter in adapters)
    logits = reference.logits if reference else {}
    digests = {name: digest(RawTensor.from_torch(tensor)) for name, tensor in logits.items()}
    return Measured(digests, refusal, cells)


def measure_each(
    world: World, rows: Sequence[tuple[Path, tuple[str, ...]]], adapters: tuple[str, ...]
) -> list[Measured]:
    """Measure checkpoints one after the other in one process, each with the names of its changed fields."""
    return [measure(world, checkpoint, adapters, fields) for checkpoint, fields in rows]


def _cell(
    adapter: str,
    checkpoint: Path,
    parallel: Parallel,
    batch: Batch,
    reference: Computed | None,
    fields: tuple[str, ...],
) -> str:
    bridge = Used(adapter)
    try:
        bridge.begin(checkpoint, parallel)
        found = bridge.logits(batch)
    except Exception as error:
        told = any(field in str(error) for field in fields)
        return f"{'refuses' if told else 'fails'}: {_line(error, checkpoint)}"
    finally:
        bridge.close()
    if reference is None:
        return "computes"
    measured = differences(reference, found)
    agrees = measured.keys() == reference.logits.keys() and max(measured.values()) <= BOUND
    return "agrees" if agrees else "differs"


def _line(error: Exception, checkpoint: Path) -> str:
    """Say what was raised in one line, without what differs from run to run."""
    line = next(iter(str(error).strip().splitlines()), "").replace(str(checkpoint), "CHECKPOINT")
    return f"{type(error).__name__}: {line[:160]}"

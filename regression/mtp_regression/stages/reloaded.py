"""Another checkpoint loaded into the model that is there, as reinforcement learning does again and again."""

from __future__ import annotations

from mtp_regression.comparison.other_checkpoint import Moved, in_other_mtp_layout, write_checkpoint
from mtp_regression.comparison.tensors import Tensors
from mtp_regression.provenance.origins import NOT_RELOADED, Origins
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.exports import save_and_compare, streamed
from mtp_regression.stages.loaded import Loaded


def reloaded(loaded: Loaded) -> Outcome:
    """Load another checkpoint, then one in the other MTP layout, for one export and again for the other."""
    loaded.changed()
    outcome = Outcome()
    others = _others(loaded)
    before: Tensors = loaded.source
    for name, tensors in others.items():
        _load(loaded, name, tensors)
        expected = loaded.carried(tensors)
        outcome += streamed(loaded, expected, _origins(loaded, expected, before))
        before = expected
    for name, tensors in others.items():
        _load(loaded, name, tensors)
        expected = loaded.carried(tensors)
        origins = _origins(loaded, expected, before)
        outcome += save_and_compare(loaded, expected, loaded.folder / f"{name}-saved", origins)
        before = expected
    return outcome


def _origins(loaded: Loaded, expected: Tensors, before: Tensors) -> Origins:
    return Origins(expected, before=[before, loaded.source], as_before=NOT_RELOADED, config=loaded.config)


def _others(loaded: Loaded) -> dict[str, Tensors]:
    """Return the checkpoints to load, one after the other, by the names of their folders."""
    others: dict[str, Tensors] = {"second": Moved(loaded.stored)}
    if (other := in_other_mtp_layout(loaded.stored)) is not None:
        others["other-layout"] = other
    return others


def _load(loaded: Loaded, name: str, tensors: Tensors) -> None:
    """Load a checkpoint into the model, which the first rank has written once."""
    folder = loaded.folder / name
    if loaded.world.rank == 0 and not folder.exists():
        with loaded.step("write"):
            write_checkpoint(folder, tensors, like=loaded.case.checkpoint)
    loaded.barrier()
    with loaded.step("reload"):
        loaded.bridge.reload(folder)

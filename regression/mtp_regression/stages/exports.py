"""The exports: the stream that a bridge yields, and the folder that it saves.

Each is compared with the checkpoint that the model should hold, and must leave the model as it was.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mtp_checkpoint.errors import CheckpointError
from mtp_regression.comparison.compare import Origin, compare
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.provenance.origins import Origins
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.loaded import Loaded, digest

_HALF_WAY_AT_MOST = 64
"""Tensors that are taken of an export that is then left."""
_WATCHED_BYTES = 1 << 28
"""Yielded tensors that are held, to be looked at once more."""


def stream(loaded: Loaded) -> Outcome:
    """Leave one stream half-way, then compare a whole one on every rank.

    Found is what is not as in the checkpoint, tensors that changed after they were yielded, the first place
    at which this rank yields another name than the first rank, and parameters that the export has changed.
    """
    _leave_half_way(loaded)
    with loaded.unchanged() as changed:
        export = _Watched(loaded.stream())
        findings = compare(loaded.source, export, _asked(loaded, loaded.source, None))
    findings += [*export.overwritten(), *_other_order(loaded, export.names), *changed]
    return Outcome(compared=len(loaded.source), findings=findings)


def saved(loaded: Loaded) -> Outcome:
    """Save the model, and compare the folder on the first rank; see whether the model is as it was."""
    with loaded.unchanged() as changed:
        outcome = save_and_compare(loaded, loaded.source, loaded.folder / "saved")
    outcome.findings += changed
    return outcome


def _leave_half_way(loaded: Loaded) -> None:
    """Leave the loop over an export after the same tensor on all ranks, as a consumer may."""
    with loaded.step("export"):
        tensors = loaded.bridge.stream()
        for _ in islice(tensors, min(len(loaded.source) // 2, _HALF_WAY_AT_MOST)):
            pass
        # What the interpreter does with a generator that is left.
        if close := getattr(tensors, "close", None):
            close()
    loaded.barrier()


def streamed(loaded: Loaded, expected: Tensors, origins: Origins | None = None) -> Outcome:
    """Compare a streamed export, if the bridge has one; called on every rank.

    Args:
        loaded: The rank.
        expected: What the model should be, as a checkpoint.
        origins: Says what wrong tensors hold; None if only the checkpoint's own are known.

    Returns:
        What is not as expected.
    """
    if not loaded.bridge.has("stream"):
        return Outcome()
    export = ((name, RawTensor.of(tensor, copy=False)) for name, tensor in loaded.stream())
    return Outcome(len(expected), compare(expected, export, _asked(loaded, expected, origins)))


def save_and_compare(
    loaded: Loaded, expected: Tensors, folder: Path, origins: Origins | None = None
) -> Outcome:
    """Compare a saved folder, if the bridge saves; called on every rank, and read by the first.

    Args:
        loaded: The rank.
        expected: What the model should be, as a checkpoint.
        folder: Where to save; it does not exist.
        origins: See `streamed`.

    Returns:
        What is not as expected.
    """
    if not loaded.bridge.has("save"):
        return Outcome()
    loaded.save(folder)
    if loaded.world.rank != 0:
        return Outcome()
    try:
        exported = read_folder(folder)
    except CheckpointError as error:  # the bridge has ended well, and nobody can read it
        return Outcome(len(expected), [Finding(folder.name, Verdict.WRONG, text) for text in error.problems])
    return Outcome(len(expected), compare(expected, exported.items(), _asked(loaded, expected, origins)))


def _asked(loaded: Loaded, expected: Tensors, origins: Origins | None) -> Origin:
    return (origins or Origins(expected, config=loaded.config)).of


class _Watched:
    """A stream whose tensors are looked at once more when it has ended, or when too many are held."""

    def __init__(self, tensors: Iterator[tuple[str, Any]]) -> None:
        self.names: list[str] = []
        self._tensors = tensors
        self._held: deque[tuple[str, Any, bytes]] = deque()
        self._bytes = 0
        self._overwritten: list[Finding] = []

    def __iter__(self) -> Iterator[tuple[str, RawTensor]]:
        for name, tensor in self._tensors:
            raw = RawTensor.of(tensor, copy=False)
            self.names.append(name)
            self._held.append((name, tensor, digest(raw)))
            self._bytes += raw.data.size
            while self._bytes > _WATCHED_BYTES:
                self._look_again()
            yield name, raw

    def overwritten(self) -> list[Finding]:
        """Return a finding for each tensor that has other bytes now than when it was yielded."""
        while self._held:
            self._look_again()
        return self._overwritten

    def _look_again(self) -> None:
        name, tensor, before = self._held.popleft()
        raw = RawTensor.of(tensor, copy=False)
        self._bytes -= raw.data.size
        if digest(raw) != before:
            self._overwritten.append(Finding(name, Verdict.WRONG, "changed after it was yielded"))


def _other_order(loaded: Loaded, names: list[str]) -> list[Finding]:
    """Say where this rank's names differ from the first rank's."""
    said = hashlib.sha256(repr(names).encode()).digest()
    if len(set(loaded.gather(said))) == 1:
        return []
    first, *_ = gathered = loaded.gather(names)  # of many ranks too many to be told when all is well
    mine = gathered[loaded.world.rank]
    for number, (own, theirs) in enumerate(zip(mine, first, strict=False)):
        if own != theirs:
            detail = f"number {number} of rank {loaded.world.rank}'s stream, where rank 0 yields {theirs}"
            return [Finding(own, Verdict.UNEXPECTED, detail)]
    if len(mine) != len(first):
        shorter, longer = sorted((mine, first), key=len)
        detail = f"rank {loaded.world.rank} yields {len(mine)} tensors, and rank 0 {len(first)}"
        return [Finding(longer[len(shorter)], Verdict.UNEXPECTED, detail)]
    return []

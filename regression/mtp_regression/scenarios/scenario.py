"""What a bridge of this family has to carry: checkpoints, and ways to use a bridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mtp_bridge_patch.releases import is_at_least
from mtp_fixtures import CheckpointSpec, preset, write_revision
from mtp_fixtures.faults.write import write_faulty
from mtp_regression.adapters import (
    MEGATRON_BRIDGE,
    PATCHED_MEGATRON_BRIDGE,
    USES_OF_MEGATRON_BRIDGE,
    patched_uses,
)
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.stages.case import Stage

_TP2_EP2 = Parallel(tp=2, ep=2)


class Use(StrEnum):
    """How the bridge is used.

    Attributes:
        PLAIN: Loaded, and exported with the checkpoint at hand.
        SEQUENTIAL: With experts held one by one (`moe_grouped_gemm=False`).
        CONFIG_ONLY: Exported with a config alone.
        PADDED: With a padded vocabulary (`should_pad_vocab=True`).
        OWN_FOLDERS: Saved by every rank into a folder of its own (`distributed_save=True`).
        WITHOUT_MTP: With MTP switched off (`mtp_num_layers=None`).
        REPEATED: With one MTP layer that is used three times (`mtp_use_repeated_layer=True`).
        ADDED_MTP: With an MTP layer that the checkpoint does not have.
        PINNED: Loaded as a commit of a repository, by the names of both.
    """

    PLAIN = "plain"
    SEQUENTIAL = "sequential"
    CONFIG_ONLY = "config-only"
    PADDED = "padded"
    OWN_FOLDERS = "own-folders"
    WITHOUT_MTP = "without-mtp"
    REPEATED = "repeated"
    ADDED_MTP = "added-mtp"
    PINNED = "pinned"

    def adapter(self, *, patched: bool) -> str:
        """Name Megatron-Bridge's adapter; see `adapters.find.find`."""
        if self is Use.PLAIN:
            return PATCHED_MEGATRON_BRIDGE if patched else MEGATRON_BRIDGE
        return (patched_uses() if patched else USES_OF_MEGATRON_BRIDGE)[self]


@dataclass(frozen=True)
class Scenario:
    """One thing that a bridge has to carry.

    Attributes:
        name: What the table calls it.
        preset: Name of the checkpoint's preset.
        options: Options of its `CheckpointSpec`.
        parallel: The parallel layout, or the two for a Megatron checkpoint.
        use: How the bridge is used.
        fault: A fault of the checkpoint, which is to be refused before anything is loaded.
        findings: What upstream does wrong with it, by number: `mtpkit finding` has the releases.
        stages: What is looked at.
        refused: Whether a patched release is to refuse it, as it does every fault.
        main: What the repository's branch `main` is, for the use PINNED; None for a cache without it.
        since: First release whose Megatron-Core builds such a model; before, it refuses, patched or not.
    """

    name: str
    preset: str
    findings: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    parallel: Parallel | Resharding = _TP2_EP2
    use: Use = Use.PLAIN
    fault: str | None = None
    stages: Sequence[Stage] = (Stage.NATIVE, Stage.STREAM, Stage.SAVED)
    refused: bool = False
    main: CheckpointSpec | None = None
    since: str = ""

    def wanted(self, release: str) -> Verdict:
        """Return the verdict that a patched release is to get."""
        if self.since and not is_at_least(release, self.since):
            return Verdict.CRASH_IMPORT
        return Verdict.REFUSED if self.fault or self.refused else Verdict.EXACT

    def write(self, folder: Path) -> Path:
        """Write the checkpoint."""
        spec = CheckpointSpec(preset(self.preset), **self.options)
        if self.use is Use.PINNED:
            if self.main is not None:
                write_revision(self.main, folder, repo="org/name", revision="main")
            return write_revision(spec, folder, repo="org/name")
        return spec.write(folder) if self.fault is None else write_faulty(spec, self.fault, folder)

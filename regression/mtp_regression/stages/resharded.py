"""Megatron's own checkpoint: saved in one layout, loaded in another, and exported."""

from __future__ import annotations

from typing import cast

from mtp_regression.ranks.parallel import Resharding
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.exports import save_and_compare, streamed
from mtp_regression.stages.loaded import Loaded
from mtp_regression.stages.native import native


def resharded(loaded: Loaded) -> Outcome:
    """Take the model through Megatron's checkpoint; compare what the ranks then hold, and both exports."""
    layouts = cast(Resharding, loaded.case.parallel)
    megatron = loaded.folder / "megatron"
    loaded.bridge.save_megatron(megatron)
    loaded.barrier()
    loaded.load_megatron(megatron, layouts.after)
    outcome = native(loaded) if loaded.bridge.has_oracle else Outcome()
    outcome += streamed(loaded, loaded.source)
    outcome += save_and_compare(loaded, loaded.source, loaded.folder / "resharded")
    return outcome

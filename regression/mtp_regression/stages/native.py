"""What the ranks hold: every parameter against the value that Megatron-Core's definitions require."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.oracle.check import check
from mtp_regression.oracle.claims import NativeOrigins
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.oracle.recipes import Recipe
from mtp_regression.oracle.vision import MEGATRON_BRIDGE, VISION_TOWER
from mtp_regression.ranks.parallel import Coordinates, Parallel
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.loaded import Loaded


def native(loaded: Loaded) -> Outcome:
    """Compare every parameter on the rank."""
    wanted = expected(loaded, loaded.source)
    held = (
        (name, RawTensor.of(parameter, copy=False))
        for name, parameter in loaded.bridge.parameters()
        if whose_vision(loaded) or VISION_TOWER not in name
    )
    origins = NativeOrigins(*_model(loaded, loaded.source), **_options(loaded))
    found = check(wanted, held, origins.of)
    return Outcome(compared=len(wanted), findings=[loaded.on_this_rank(finding) for finding in found])


def expected(loaded: Loaded, source: Tensors) -> Mapping[str, Recipe]:
    """Give the recipe of every parameter that the rank should have.

    Args:
        loaded: The rank.
        source: The checkpoint that the model should hold; of the same shapes as the case's.
    """
    return native_parameters(*_model(loaded, source), **_options(loaded))


def _model(loaded: Loaded, source: Tensors) -> tuple[Tensors, Mapping[str, Any], Parallel, Coordinates]:
    return source, loaded.config, loaded.parallel, loaded.bridge.coordinates()


def _options(loaded: Loaded) -> dict[str, Any]:
    return {
        "vocab_divisor": getattr(loaded.bridge, "vocab_divisor", 1),
        "without_mtp": loaded.without_mtp,
        "vision": whose_vision(loaded),
    }


def whose_vision(loaded: Loaded) -> str | None:
    """Say whose vision tower the bridge's model has; None if the adapter leaves it out."""
    whose: str | None = getattr(loaded.bridge, "vision", MEGATRON_BRIDGE)
    return whose

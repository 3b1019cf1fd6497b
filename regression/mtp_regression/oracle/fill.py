"""Gives a rank's parameters the values that the oracle expects of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.oracle.check import expected_name
from mtp_regression.oracle.recipes import Recipe
from mtp_regression.oracle.source import AbsentError


def fill(recipes: Mapping[str, Recipe], parameters: Iterable[tuple[str, Any]]) -> None:
    """Write expected values into parameters, one at a time.

    What is not expected, has another shape, or gets its value from a tensor that the checkpoint does not
    have, stays as it is.

    Args:
        recipes: Recipe of each parameter by name, from `native_parameters`.
        parameters: Name, as `check` takes it, and `torch.Tensor` or array of each parameter on the rank.
    """
    for name, parameter in parameters:
        recipe = recipes.get(expected_name(name))
        try:
            value = None if recipe is None else recipe()
        except AbsentError:
            continue
        if value is None or value.shape != tuple(parameter.shape):
            continue
        if isinstance(parameter, np.ndarray):
            parameter[...] = value
        else:
            parameter.data.copy_(RawTensor.from_array(value).to_torch())

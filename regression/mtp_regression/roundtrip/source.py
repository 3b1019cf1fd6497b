"""The tensors of a case's checkpoint, on disk or generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtp_fixtures import CheckpointSpec
from mtp_regression.comparison.generated import GeneratedTensors
from mtp_regression.comparison.tensors import Tensors, read_folder
from mtp_regression.roundtrip.case import Case


def source_of(case: Case) -> Tensors:
    """Give the tensors of a case's checkpoint; bytes are read or made when they are asked for."""
    return read_folder(case.checkpoint) if case.generated is None else GeneratedTensors(case.generated)


def torch_tensors(spec: CheckpointSpec) -> Callable[[str], Any]:
    """Return a function that makes the `torch.Tensor` of a key, for an adapter's `read_from`.

    It shares nothing with `source_of`: a bridge that writes into what it reads must not change what is right.
    """
    tensors = GeneratedTensors(spec)
    return lambda key: tensors[key].to_torch()

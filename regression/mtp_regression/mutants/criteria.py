"""How others judge a round trip, written from their tests, in numpy: for comparison with the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.in_memory.conversions import Array

_FP8 = ("F8_E4M3",)
_PRECISION = {"F16": (1e-5, 1e-3), "BF16": (1e-5, 1.6e-2), "F32": (1e-5, 1.3e-6), "F64": (1e-7, 1e-7)}
"""What `torch.testing.assert_close` allows of a dtype, `atol` and `rtol`; of others nothing."""


@dataclass(frozen=True)
class Criterion:
    """A test of a project, as a function of a checkpoint and of what was exported of it.

    Attributes:
        project: The project, with its release.
        file: The file that has the test.
        about: What it compares, as a phrase.
        saved: Whether it looks at a saved folder, in place of a stream.
        passes: Whether tensors, exported of a source, pass it.
    """

    project: str
    file: str
    about: str
    saved: bool
    passes: Callable[[Tensors, Tensors], bool]


def close(actual: Array, expected: Array, *, atol: float, rtol: float) -> bool:
    """Compare as `torch.allclose` does: |actual - expected| <= atol + rtol * |expected|; NaN equals nothing.

    Arrays of two shapes are broadcast, and are not close if they cannot be.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        one, other = actual.astype(np.float64), expected.astype(np.float64)
        try:
            near = np.abs(one - other) <= atol + rtol * np.abs(other)
        except ValueError:
            return False
        return bool(np.all((one == other) | (near & np.isfinite(other))))


def _exported_names_alone(source: Tensors, exported: Tensors) -> bool:
    return all(
        name in source
        and (
            {source[name].dtype, tensor.dtype} & {*_FP8}
            or close(tensor.array(), source[name].array(), atol=1e-1, rtol=1e-5)
        )
        for name, tensor in exported.items()
    )


def _near_after_a_cast(source: Tensors, exported: Tensors) -> bool:
    return source.keys() == exported.keys() and all(_near(source[name], exported[name]) for name in source)


def _near(source: RawTensor, saved: RawTensor) -> bool:
    if source.shape != saved.shape:
        return False
    with np.errstate(over="ignore"):
        cast = source.array().astype(saved.array().dtype)
    if np.array_equal(cast, saved.array()):
        return True
    return close(cast, saved.array(), atol=1e-3, rtol=1e-3)


def _assert_close(source: Tensors, exported: Tensors) -> bool:
    return source.keys() == exported.keys() and all(
        (tensor.dtype, tensor.shape) == (exported[name].dtype, exported[name].shape)
        and close(
            exported[name].array(),
            tensor.array(),
            **dict(zip(("atol", "rtol"), _PRECISION.get(tensor.dtype, (0.0, 0.0)), strict=True)),
        )
        for name, tensor in source.items()
    )


CRITERIA = {
    "Megatron-Bridge": Criterion(
        "Megatron-Bridge 0.6.0",
        "examples/conversion/hf_megatron_roundtrip_multi_gpu.py",
        "`torch.allclose` with `atol=1e-1`, `rtol=1e-5`, of exported names alone; FP8 is skipped",
        False,
        _exported_names_alone,
    ),
    "mbridge": Criterion(
        "mbridge, commit 44e96a8",
        "example/qwen3_5/test_save_mtp.py",
        "the same names and shapes, and values equal or within 1e-3 after a cast to the saved dtype",
        True,
        _near_after_a_cast,
    ),
    "Automodel": Criterion(
        "NeMo Automodel, commit 103cf3c",
        "tests/unit_tests/models/qwen3_5_moe/test_qwen3_5_moe_state_dict_adapter.py",
        "the same names, and `torch.testing.assert_close`, which for BF16 is `rtol=1.6e-2`, `atol=1e-5`",
        False,
        _assert_close,
    ),
}
"""The criteria, by a short name of the project."""

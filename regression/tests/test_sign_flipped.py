"""The sign bit of every element is flipped, in a model as in its checkpoint, whatever the element."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mtp_regression.comparison.other_checkpoint import SignFlipped
from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.stages.retrained import _flip


@pytest.mark.parametrize("dtype", ["BF16", "F32", "F8_E4M3"])
def test_model_and_checkpoint_agree_on_every_bit_pattern(dtype: str) -> None:
    """NaN with payloads included: negated as numbers, 33 of them come out in two ways."""
    size = DTYPES[dtype].itemsize
    bits = np.random.default_rng(0).integers(0, 256, 3 * 33 * size, np.uint8)
    bits[-size:] = bits[:size] = np.frombuffer(b"\x01\x00\xd5\x7f"[-size:], np.uint8)  # NaN, but of E4M3
    source = {"a.weight": RawTensor(dtype, (3, 33), bits), "b.weight": RawTensor(dtype, (99,), bits)}
    source["a.weight_scale_inv"] = source["a.weight"]
    parameters = {name: tensor.to_torch().clone() for name, tensor in source.items()}
    _flip(cast(Any, SimpleNamespace(bridge=SimpleNamespace(parameters=parameters.items))))
    flipped = SignFlipped(source)
    for name, parameter in parameters.items():
        assert np.array_equal(RawTensor.from_torch(parameter).data, flipped[name].data)
    different = flipped["a.weight"].data ^ bits
    assert np.array_equal(different.reshape(-1, size)[:, -1], np.full(99, 0x80))
    assert not different.reshape(-1, size)[:, :-1].any()
    assert flipped["b.weight"] is source["b.weight"], "a vector keeps its sign"
    assert flipped["a.weight_scale_inv"] is source["a.weight"], "scales keep theirs"

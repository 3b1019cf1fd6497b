"""An export is compared as it comes: the findings are those at once, and memory holds a few tensors."""

import tracemalloc
from collections.abc import Iterator, Mapping
from functools import partial
from random import Random
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtp_regression.comparison import elements
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.elements import compare_tensor
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Verdict

from .comparison_at_once import compare_at_once

PREFIX = "mtp.layers.0.mlp.experts."
GATE_UP = np.arange(0x3F80, 0x3F80 + 24, dtype=np.uint16).reshape(2, 4, 3)
DOWN = np.arange(0x4080, 0x4080 + 12, dtype=np.uint16).reshape(2, 3, 2)
SINGLE = {
    f"{PREFIX}{expert}.{name}.weight": matrix
    for expert in range(2)
    for name, matrix in (
        ("gate_proj", GATE_UP[expert, :2]),
        ("up_proj", GATE_UP[expert, 2:]),
        ("down_proj", DOWN[expert]),
    )
}
RIGHT = {
    **SINGLE,
    f"{PREFIX}gate_up_proj": GATE_UP,
    f"{PREFIX}down_proj": DOWN,
    "mtp.norm.weight": np.full(3, 0x3F80, np.uint16),
}
"""BF16 bit patterns of every tensor in either layout, and of one that is no expert's."""

CHANGES = {
    "none": lambda tensor: tensor,
    "last": lambda tensor: _changed(tensor, -1, 1.5),
    "nan": lambda tensor: _changed(tensor, 0, np.nan),
    "all": lambda tensor: RawTensor.from_array(tensor.array() + 1),
    "wide": lambda tensor: RawTensor.from_array(tensor.array().astype(np.float32)),
    "more": lambda tensor: RawTensor.from_array(np.concatenate([tensor.array()] * 2)),
    "flat": lambda tensor: RawTensor.from_array(tensor.array().reshape(-1)),
    "empty": lambda tensor: RawTensor.from_array(tensor.array()[:0]),
}


def _changed(tensor: RawTensor, at: int, value: float) -> RawTensor:
    array = tensor.array().copy()
    array.reshape(-1)[at] = value
    return RawTensor.from_array(array)


def tensor_of(name: str, change: str = "none") -> RawTensor:
    return CHANGES[change](RawTensor.from_array(RIGHT[name].view(ml_dtypes.bfloat16)))


NAMES = st.sampled_from(list(RIGHT))
# Mostly the tensors as they are: what is changed should be an exception.
ENTRIES = st.tuples(NAMES, st.one_of(st.just("none"), st.sampled_from(list(CHANGES))))
LAYOUTS = [
    [(name, "none") for name in RIGHT if (name in SINGLE) is single or "norm" in name]
    for single in (True, False)
]

EXPORTS = LAYOUTS + [[(name, "all") for name, _ in layout] for layout in LAYOUTS]


@given(
    st.sampled_from(LAYOUTS),
    st.lists(ENTRIES, max_size=2),
    st.sets(NAMES, max_size=3),
    st.sampled_from(EXPORTS),
    st.sets(NAMES, max_size=3),
    st.lists(ENTRIES, max_size=4),
    st.randoms(use_true_random=False),
)
def test_findings_are_those_of_a_comparison_at_once(
    layout: list[tuple[str, str]],
    besides: list[tuple[str, str]],
    absent: set[str],
    export: list[tuple[str, str]],
    left_out: set[str],
    added: list[tuple[str, str]],
    order: Random,
) -> None:
    source = {name: tensor_of(name, change) for name, change in [*layout, *besides] if name not in absent}
    entries = [entry for entry in export if entry[0] not in left_out] + added
    order.shuffle(entries)
    exported = [(name, tensor_of(name, change)) for name, change in entries]
    assert compare(source, iter(exported)) == compare_at_once(source, exported)


@given(st.data())
def test_blocks_do_not_show_in_what_is_told(data: st.DataObject) -> None:
    name = data.draw(NAMES)
    left, right = (tensor_of(name, data.draw(st.sampled_from(list(CHANGES)))) for _ in range(2))
    whole = compare_tensor(left, right)
    with mock.patch.object(elements, "BLOCK", data.draw(st.integers(1, 5))):
        assert compare_tensor(left, right) == whole


EXPERTS, ROWS, COLUMNS, LAYERS = 8, 512, 256, 40
SIZE = EXPERTS * ROWS * COLUMNS * 2
"""Bytes of a large tensor, 2 MiB; a checkpoint has as many as layers."""


class Made(Mapping[str, RawTensor]):
    """Packed or single down projections of every layer, whose bytes are made whenever they are asked for."""

    def __init__(self, *, packed: bool, wrong: bool = False) -> None:
        self.wrong = wrong
        self.shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(LAYERS):
            experts = f"mtp.layers.{layer}.mlp.experts."
            if packed:
                self.shapes[experts + "down_proj"] = (EXPERTS, ROWS, COLUMNS)
            else:
                single = [f"{experts}{expert}.down_proj.weight" for expert in range(EXPERTS)]
                self.shapes |= dict.fromkeys(single, (ROWS, COLUMNS))

    def __getitem__(self, name: str) -> RawTensor:
        shape = self.shapes[name]
        return RawTensor("BF16", shape, partial(self.bytes_of, shape))

    def bytes_of(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        experts = np.full((EXPERTS, ROWS, COLUMNS)[-len(shape) :], 0x3F80, np.uint16)
        experts[..., -1, -1] += self.wrong
        return experts.reshape(-1).view(np.uint8)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("packed", [(True, True), (False, False), (True, False), (False, True)])
def test_memory_holds_a_few_tensors_whatever_the_checkpoint_has(
    packed: tuple[bool, bool], wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, export = Made(packed=packed[0]), Made(packed=packed[1], wrong=wrong)

    def stream() -> Iterator[tuple[str, RawTensor]]:
        for name, tensor in export.items():
            yield name, RawTensor(tensor.dtype, tensor.shape, tensor.data)

    monkeypatch.setattr(elements, "BLOCK", 1 << 14)  # small beside a tensor, as it is beside a real one
    tracemalloc.start()
    try:
        findings = compare(source, stream())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    same = packed[0] == packed[1]
    of_source = {finding.verdict for finding in findings if finding.tensor in source}
    assert of_source == ({Verdict.WRONG} if wrong else set() if same else {Verdict.FLIP})
    assert peak < 4 * SIZE

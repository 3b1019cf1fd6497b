"""Sentences on constructed mistakes: of shapes and dtypes, of experts, and of a rank's shards."""

from collections.abc import Callable
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.provenance.orders import Cut
from mtp_regression.provenance.origins import NOT_RELOADED, Origins, Shard

Array = Any
NAME, EXPERTS = "model.language_model.layers.3.mlp.gate.weight", "mtp.layers.0.mlp.experts.gate_up_proj"
FP8 = "model.language_model.layers.3.self_attn.q_proj.weight"
BF16 = DTYPES["BF16"]


def numbers(*shape: int, seed: int = 0, dtype: str = "BF16") -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(DTYPES[dtype])


def said(right: Array, wrong: Array, name: str = NAME, **others: Array) -> str:
    tensors = {name: right, **others}
    origins = Origins({key: RawTensor.from_array(array) for key, array in tensors.items()})
    return origins.of(name, RawTensor.from_array(right), RawTensor.from_array(wrong))


THREE = ", ".join(
    f"expert {own} holds expert {other}"
    for own, other in (("2's gate", "2's up"), ("2's up", "2's gate"), ("3's up", "3's gate"))
)
RIGHT, STACKED = numbers(12, 8), numbers(8, 6, 4)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (RIGHT.T, "transposed"),
        (RIGHT[None], "dimensions of 1 added: [1, 12, 8]"),
        (RIGHT.reshape(8, 12), "the right elements in the shape [8, 12]"),
        (np.concatenate([RIGHT] * 2), "2 copies one after the other"),
        (np.concatenate([RIGHT, np.zeros((4, 8), BF16)]), "rows 12-15 added (zeros); the rest is right"),
        (np.concatenate([RIGHT, numbers(1, 8, seed=1)]), "row 12 added; the rest is right"),
        (np.concatenate([RIGHT, RIGHT], 1), "2 copies one after the other"),
        (RIGHT[6:], "shard 1 of 2 alone: rows 6-11"),
        (RIGHT[:, :4], "shard 0 of 2 alone: columns 0-3"),
        (RIGHT[:11], "row 11 left out; the rest is right"),
        (np.concatenate(np.split(RIGHT, 2, 1)), "2 shards of columns joined as rows"),
        (np.concatenate(np.split(RIGHT, 3), 1), "3 shards of rows joined as columns"),
        (numbers(5, 8, seed=2), ""),
        (RIGHT[:0], ""),
    ],
)
def test_another_shape(wrong: Array, sentence: str) -> None:
    assert said(RIGHT, wrong) == sentence


def test_a_dimension_that_is_lost_and_experts() -> None:
    assert said(numbers(6, 1, 4), numbers(6, 1, 4)[:, 0]) == "dimensions of 1 removed: [6, 4]"
    assert said(STACKED, STACKED.swapaxes(1, 2), EXPERTS) == "axes 1 and 2 exchanged"
    assert said(STACKED, STACKED[4:], EXPERTS) == "shard 1 of 2 alone: experts 4-7"


def _local(array: Array) -> Array:
    return array[np.arange(8) % 4]


def _with(array: Array, at: Any, value: Any) -> Array:
    changed = array.copy()
    changed[at] = value
    return changed


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (_local, "experts numbered on each rank of ep2: experts 4-7 hold 0-3"),
        (lambda a: a[[1, 0, 3, 2, 4, 5, 6, 7]], "experts permuted: holds 1, 0, 3, 2, 4, 5, 6, 7"),
        (lambda a: a[[0, 1, 2, 6, 4, 5, 3, 7]], "experts 3 and 6 exchanged"),
        (lambda a: _with(a, 3, a[1]), "expert 3 holds expert 1"),
        (lambda a: _with(a, (3, slice(3, 6)), a[1, 3:]), "expert 3's up holds expert 1's up"),
        (lambda a: _with(a, (3, slice(3, 6)), a[3, :3]), "up holds gate in expert 3"),
        (lambda a: _with(_with(a, 2, np.roll(a[2], 3, 0)), (3, slice(3, 6)), a[3, :3]), THREE),
        (lambda a: np.concatenate([a[:, 3:], a[:, :3]], 1), "gate and up exchanged"),
        (lambda a: _with(a, slice(0, 4), np.roll(a[:4], 3, 1)), "gate and up exchanged in experts 0-3"),
        (
            lambda a: a.reshape(8, 2, 3, 4).swapaxes(1, 2).reshape(8, 6, 4),
            "gate and up interleaved, not one after the other",
        ),
        (
            lambda a: a.swapaxes(1, 2).reshape(a.shape),
            "every expert transposed, and read in the shape [8, 6, 4]",
        ),
        (lambda a: _with(a, (3, slice(3, 6)), 0), "expert 3's up all zero; the rest is right"),
        (lambda a: _with(a, (3, slice(3, 6)), np.nan), "expert 3's up NaN: never loaded; the rest is right"),
        (
            lambda a: _with(a, (slice(2, 4), 1), np.nan),
            "row 1 of experts 2-3 NaN: never loaded; the rest is right",
        ),
        (lambda a: _with(a, (3, 4, 2), 9), "only row 1 of expert 3's up differs"),
        (lambda a: _with(a, (3, slice(3, 6), 1), a[0, :3, 0]), "expert 3's up alone differs"),
    ],
)
def test_experts(of: Callable[[Array], Array], sentence: str) -> None:
    assert said(STACKED, np.ascontiguousarray(of(STACKED)), EXPERTS) == sentence


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (lambda a: np.roll(a, 1, 0), "rows moved by 1 row, the last to the front"),
        (lambda a: np.concatenate([a[:1], a[:-1]]), "rows 1-11 hold 0-10"),
        (lambda a: np.concatenate([a[4:8], a[:4], a[8:]]), "shards of rows in the order 1, 0, 2"),
        (lambda a: a[:, ::-1], "columns reversed"),
        (lambda a: _with(a, slice(3, 6), np.nan), "rows 3-5 NaN: never loaded; the rest is right"),
        (
            lambda a: _with(a, np.indices(a.shape).sum(0) % 2 == 0, np.nan),
            "half of it NaN: never loaded; the rest is right",
        ),
        (lambda a: _with(a, (5, 2), 9), "only row 5 in column 2 differs"),
        (lambda a: (a.astype(np.float32) * 0.5).astype(a.dtype), "multiplied by 1/2"),
        (lambda a: np.full_like(a, 1), "all 1"),
    ],
)
def test_rows_and_columns(of: Callable[[Array], Array], sentence: str) -> None:
    assert said(RIGHT, np.ascontiguousarray(of(RIGHT))) == sentence


def test_halves_of_columns() -> None:
    right = numbers(8, 16)
    assert said(right, np.roll(right, 8, 1), "mtp.fc.weight") == "halves exchanged: embedding and hidden"


def test_another_tensor_the_nearest() -> None:
    other = numbers(12, 8, seed=4)
    others = {f"model.language_model.layers.{layer}.mlp.gate.weight": other for layer in (0, 2, 7)}
    assert said(RIGHT, other, **others) == "is model.language_model.layers.2.mlp.gate.weight"
    mixed = np.concatenate([RIGHT[:6], other[6:]])
    sentence = "rows 6-11: as in model.language_model.layers.2.mlp.gate.weight; the rest is right"
    assert said(RIGHT, mixed, **others) == sentence


def test_an_expert_of_a_tensor_that_holds_all() -> None:
    name = "mtp.layers.0.mlp.experts.3.up_proj.weight"
    assert (
        said(numbers(3, 4), STACKED[5, 3:], name, **{EXPERTS: STACKED})
        == "is mtp.layers.0.mlp.experts.5.up_proj.weight"
    )


@pytest.mark.parametrize(
    ("dtype", "sentence"), [("F16", "rounded to FP16"), ("F8_E4M3", "rounded to FP8 (E4M3)"), ("F32", "")]
)
def test_another_dtype(dtype: str, sentence: str) -> None:
    right = (numbers(12, 8) * np.float32(2.0**-13)).astype(BF16)
    assert said(right, right.astype(DTYPES[dtype])) == sentence
    if dtype == "F32":
        assert said(right, right[::-1].astype(np.float32)) == "rows reversed, in F32"


@pytest.mark.parametrize("times", [0, 1, 2])
def test_scales(times: int) -> None:
    weight = numbers(130, 130).astype(ml_dtypes.float8_e4m3fn)
    scales = np.array([[0.25, 0.5], [3, 5]], BF16)
    by_block = scales.astype(np.float32).repeat(128, 0)[:130].repeat(128, 1)[:, :130]
    wrong = (weight.astype(np.float32) * by_block**times).astype(BF16)
    sentence = ("scales not applied", "scales applied", "scales applied twice")[times]
    assert said(weight, wrong, FP8, **{f"{FP8}_scale_inv": scales}) == sentence


def test_a_shard() -> None:
    origins, name = Origins({}), "0/decoder.layers.0.mlp.linear_fc1.weight"
    whole = numbers(16, 8)
    gate, up = np.split(whole, 2)
    mine = np.concatenate([gate[:4], up[:4]])
    for wrong, sentence in (
        (np.concatenate([gate[4:], up[4:]]), "shard of tp rank 1"),
        (np.concatenate([up[:4], gate[:4]]), "gate and up exchanged"),
        (np.concatenate([up[4:], gate[4:]]), "gate and up exchanged, shard of tp rank 1"),
        (gate, "gate, up cut as one, not one by one"),
        (up, "gate, up cut as one, not one by one, shard of tp rank 1"),
        (whole, "whole, not cut for 2 tp ranks"),
        (whole[:, :4], "cut along the wrong axis: columns, not rows"),
    ):
        shard = Shard(RawTensor.from_array(whole), Cut(0, 2))
        expected, actual = RawTensor.from_array(mine), RawTensor.from_array(wrong)
        assert origins.of(name, expected, actual, shard) == sentence


def test_columns_of_another_rank() -> None:
    whole = numbers(8, 16)
    shard = Shard(RawTensor.from_array(whole), Cut(0, 2, "etp"))
    mine, other = (RawTensor.from_array(half) for half in np.split(whole, 2, axis=1))
    assert (
        Origins({}).of("0/mtp.layers.0.mlp.experts.linear_fc2.weight0", mine, other, shard)
        == "shard of etp rank 1"
    )


def test_a_tensor_of_the_checkpoint_before() -> None:
    right, before = (RawTensor.from_array(numbers(12, 8, seed=seed)) for seed in (0, 1))
    origins = Origins({NAME: right}, before=[{}, {NAME: before}], as_before=NOT_RELOADED)
    assert origins.of(NAME, right, before) == NOT_RELOADED


SHAPES = [
    (),
    (1,),
    (0,),
    (3,),
    (1, 1),
    (2, 0),
    (4, 6),
    (6, 4),
    (1, 24),
    (4, 6, 1),
    (2, 3, 4),
    (2, 4, 3),
    (1, 2, 3, 4),
]


@pytest.mark.parametrize(
    "name", [NAME, EXPERTS, FP8, f"{FP8}_scale_inv", "mtp.fc.weight", "0/mtp.layers.0.eh_proj.weight", ""]
)
def test_whatever_comes_is_no_error(name: str) -> None:
    """Of any two shapes and dtypes, also of one element, of none, of integers."""
    for right, wrong in product(SHAPES, SHAPES):
        for one, other in product(("BF16", "F32", "F8_E4M3", "I8", "BOOL"), repeat=2):
            want, have = np.ones(right, DTYPES[one]), np.zeros(wrong, DTYPES[other])
            assert isinstance(said(want, have, name), str)

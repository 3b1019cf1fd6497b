"""Blocks of a weight, on numbered rows: small enough to be written out."""

import ml_dtypes
import numpy as np
import pytest

from mtp_regression.oracle.shards import Share, interleave_groups, pad_vocabulary, split_output_gate
from mtp_regression.oracle.source import dequantize


def rows(*numbers: int) -> np.ndarray:
    """A weight of three columns, whose row r is [10 r, 10 r + 1, 10 r + 2]."""
    return np.array(numbers)[:, None] * 10 + np.arange(3)


def test_column_parallel_ranks_hold_rows_in_order() -> None:
    held = [Share(rank, 2).column_parallel(rows(0, 1, 2, 3)) for rank in range(2)]
    assert np.array_equal(held[0], rows(0, 1))
    assert np.array_equal(held[1], rows(2, 3))


def test_parts_are_cut_one_by_one() -> None:
    gate, up = rows(0, 1, 2, 3), rows(4, 5)
    assert np.array_equal(Share(0, 2).column_parallel(gate, up), rows(0, 1, 4))
    assert np.array_equal(Share(1, 2).column_parallel(gate, up), rows(2, 3, 5))


def test_row_parallel_ranks_hold_columns_in_order() -> None:
    weight = np.arange(12).reshape(2, 6)
    assert Share(1, 3).row_parallel(weight).tolist() == [[2, 3], [8, 9]]
    assert Share(2, 3).row_parallel(weight).tolist() == [[4, 5], [10, 11]]


def test_a_whole_share_is_everything() -> None:
    weight = rows(0, 1, 2)
    assert np.array_equal(Share().column_parallel(weight), weight)
    assert np.array_equal(Share().row_parallel(weight), weight)


def test_vectors_are_cut_as_rows_are() -> None:
    assert Share(1, 2).column_parallel(np.arange(4)).tolist() == [2, 3]


@pytest.mark.parametrize("cut", [Share(0, 2).column_parallel, Share(0, 2).row_parallel])
def test_what_does_not_divide_is_refused(cut) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="equal division"):
        cut(np.zeros((3, 3)))


def test_groups_are_interleaved() -> None:
    """Two groups of two heads of one row, each with its gate, and one key and value a group."""
    query, gate, key, value = rows(0, 1, 2, 3), rows(10, 11, 12, 13), rows(20, 21), rows(30, 31)
    whole = interleave_groups(2, query, gate, key, value)
    assert np.array_equal(whole, rows(0, 1, 10, 11, 20, 30, 2, 3, 12, 13, 21, 31))


def test_output_gate_follows_each_heads_query() -> None:
    query, gate = split_output_gate(rows(0, 1, 10, 11, 2, 3, 12, 13), heads=2)
    assert np.array_equal(query, rows(0, 1, 2, 3))
    assert np.array_equal(gate, rows(10, 11, 12, 13))


@pytest.mark.parametrize(
    ("divisor", "ranks", "length"), [(1, 2, 5), (4, 1, 8), (4, 2, 8), (4, 3, 12), (5, 1, 5), (128, 2, 256)]
)
def test_vocabulary_is_padded_with_zeros(divisor: int, ranks: int, length: int) -> None:
    weight = rows(1, 2, 3, 4, 5).astype(ml_dtypes.bfloat16)
    padded = pad_vocabulary(weight, divisor=divisor, ranks=ranks)
    assert padded.shape == (length, 3)
    assert padded.dtype == weight.dtype
    assert np.array_equal(padded[:5], weight)
    assert not padded[5:].any()


def test_every_block_has_its_scale() -> None:
    """A weight of ones, in blocks of 2 x 3: the scales alone are left."""
    weight = np.ones((3, 5), ml_dtypes.float8_e4m3fn)
    scales = np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16)
    dequantized = dequantize(weight, scales, (2, 3))
    assert dequantized.dtype == np.float32
    assert dequantized.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [3, 3, 3, 4, 4]]


def test_scales_are_applied_in_float32() -> None:
    """1.125 * 1.0078125 has 11 significant bits: neither factor's dtype holds it."""
    weight = np.full((1, 1), 1.125, ml_dtypes.float8_e4m3fn)
    scale = np.full((1, 1), 1.0078125, ml_dtypes.bfloat16)
    assert dequantize(weight, scale, (128, 128)).item() == 1.125 * 1.0078125

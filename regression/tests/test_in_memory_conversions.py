"""Conversions by themselves: they undo each other, and the orders are those written out by hand."""

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mtp_fixtures import Geometry, preset
from mtp_fixtures.families.preset import Scale
from mtp_regression.in_memory.conversions import (
    BF16,
    Array,
    Conversion,
    Cut,
    fused_by_key_head,
    gated_heads,
    two_halves,
    vision_heads,
)
from mtp_regression.in_memory.fp8 import dequantize, quantize
from mtp_regression.in_memory.placement import coordinates, cut, join
from mtp_regression.in_memory.table import TABLE
from mtp_regression.ranks.parallel import Coordinates, Parallel

SIZES = preset("qwen3.6-35b-a3b").geometry(Scale.TINY)
TEXT = SIZES.text


def sizes(**changes: Any) -> Geometry:
    return replace(SIZES, text=replace(TEXT, **changes))


def words(array: Array) -> str:
    return " ".join(map(str, array))


def rows(text: str) -> Array:
    return np.array(text.split())


def test_groups_of_heads_have_queries_gates_key_value() -> None:
    """Four heads of one row in two groups; a checkpoint has each head's query, then its gate."""
    order = gated_heads(
        sizes(num_attention_heads=4, num_key_value_heads=2),
        rows("q0 g0 q1 g1 q2 g2 q3 g3"),
        rows("k0 k1"),
        rows("v0 v1"),
    )
    assert words(order) == "q0 q1 g0 g1 k0 v0 q2 q3 g2 g3 k1 v1"


def test_heads_of_the_vision_tower() -> None:
    assert SIZES.vision
    two = replace(SIZES, vision=replace(SIZES.vision, num_heads=2))
    assert words(vision_heads(two, rows("q0 q1 k0 k1 v0 v1"))) == "q0 k0 v0 q1 k1 v1"


def test_fused_projections_are_sorted_by_part() -> None:
    """Two key heads of one row; each has two value heads of one row."""
    order = fused_by_key_head(
        sizes(
            linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=1, linear_value_head_dim=1
        ),
        rows("q0 k0 v0 v1 z0 z1 q1 k1 v2 v3 z2 z3"),
        rows("b0 b1 a0 a1 b2 b3 a2 a3"),
    )
    assert words(order) == "q0 q1 k0 k1 v0 v1 v2 v3 z0 z1 z2 z3 b0 b1 b2 b3 a0 a1 a2 a3"


def test_every_part_is_cut_by_itself() -> None:
    conversion = Conversion("", ("", ""), Cut.COLUMN_PARALLEL, parts=two_halves)
    shards = cut(conversion, SIZES, rows("g0 g1 g2 g3 u0 u1 u2 u3"), 2)
    assert [words(shard) for shard in shards] == ["g0 g1 u0 u1", "g2 g3 u2 u3"]


def test_the_columns_of_a_row_parallel_weight_are_cut() -> None:
    shards = cut(Conversion("", ("",), Cut.ROW_PARALLEL), SIZES, np.arange(8).reshape(2, 4), 2)
    assert [shard.tolist() for shard in shards] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


ROWS = {
    "self_attn.q_proj.weight": 2 * TEXT.query_size,
    "self_attn.k_proj.weight": TEXT.key_value_size,
    "self_attn.v_proj.weight": TEXT.key_value_size,
    "linear_attn.in_proj_qkv.weight": TEXT.linear_conv_size,
    "linear_attn.in_proj_z.weight": TEXT.linear_value_size,
    "linear_attn.in_proj_b.weight": TEXT.linear_num_value_heads,
    "linear_attn.in_proj_a.weight": TEXT.linear_num_value_heads,
    "linear_attn.in_proj_qkvz.weight": TEXT.linear_conv_size + TEXT.linear_value_size,
    "linear_attn.in_proj_ba.weight": 2 * TEXT.linear_num_value_heads,
    "linear_attn.conv1d.weight": TEXT.linear_conv_size,
}
"""Those of tensors that are not cut or ordered alike for any number."""


@pytest.mark.parametrize(
    "conversion",
    [
        pytest.param(conversion, id=f"{section}-{conversion.name}")
        for section, rows in TABLE.items()
        for conversion in rows
    ],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_there_and_back_again(conversion: Conversion, shards: int) -> None:
    """No two rows are alike; the first numbers from 1 on stay as they are when 1 is taken from them."""
    counts = [ROWS.get(key, 24) for key in conversion.keys]
    columns = 4 if conversion.cut is Cut.ROW_PARALLEL else 1
    numbers = np.arange(sum(counts) * columns, dtype=np.uint16) + np.ones((), BF16).view(np.uint16)
    tensors = np.split(numbers.view(BF16).reshape(-1, columns), np.cumsum(counts)[:-1])
    whole = conversion.to_native(SIZES, tensors)
    pieces = cut(conversion, SIZES, whole, 1 if conversion.cut is Cut.WHOLE else shards)
    back = conversion.to_stored(SIZES, join(conversion, SIZES, pieces), counts)
    assert [tensor.astype(BF16).tobytes() for tensor in back] == [tensor.tobytes() for tensor in tensors]
    assert len(np.unique(whole.astype(np.float32))) == numbers.size
    assert whole.dtype == BF16


@pytest.mark.parametrize(
    ("layout", "ranks", "rank", "expected"),
    [
        ("tp2 pp2 ep2", 8, 5, Coordinates(tp=1, pp=1, ep=1)),
        ("tp2 pp2 ep2", 8, 6, Coordinates(tp=0, pp=1, ep=0)),
        ("ep2 etp2", 4, 2, Coordinates(ep=1, etp=0)),
        ("tp2 etp2", 4, 3, Coordinates(tp=1, etp=1)),
        ("ep4", 8, 6, Coordinates(ep=2)),
    ],
)
def test_coordinates(layout: str, ranks: int, rank: int, expected: Coordinates) -> None:
    """Worked out by hand: tp, then cp, then replicas, then pp; etp, ep, replicas, pp."""
    assert coordinates(Parallel.parse(layout), rank, ranks) == expected


def every_e4m3() -> Array:
    numbers = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    return np.tile(numbers[~np.isnan(numbers.astype(np.float32))], (130, 1))


@pytest.mark.parametrize("scale", [2**-10, 0.0123, 1.0, 3.3])
@pytest.mark.parametrize("dtype", [BF16, np.dtype(np.float32)])
def test_fp8_comes_back_after_bf16(scale: float, dtype: np.dtype[Any]) -> None:
    """254 columns are two blocks, 130 rows another two."""
    scales = np.array([[scale, scale / 3], [scale * 5, scale]]).astype(dtype)
    weight, same = quantize(dequantize(every_e4m3(), scales).astype(BF16), scales)
    assert weight.tobytes() == every_e4m3().tobytes()
    assert same.tobytes() == scales.tobytes()


def test_a_scale_grows_with_its_block_alone() -> None:
    scales = np.ones((2, 2), BF16)
    weight = np.ones((130, 254), BF16)
    weight[129, 0] = -896
    quantized, grown = quantize(weight, scales)
    assert grown.tolist() == [[1, 1], [2, 1]]
    assert dequantize(quantized, grown).tolist() == weight.astype(np.float32).tolist()

"""Comparison: one verdict for each way in which a tensor can come back."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.elements import compare_tensor
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Verdict, worst

EXPERTS = "mtp.layers.0.mlp.experts."
Tensors = dict[str, RawTensor]


def bf16(*shape: int, start: int = 0) -> RawTensor:
    """Consecutive BF16 bit patterns from 1.0 on: every element is another."""
    count = int(np.prod(shape))
    bits = (0x3F80 + start + np.arange(count)).astype("<u2")
    return RawTensor("BF16", shape, bits.view(np.uint8))


def packed() -> Tensors:
    return {EXPERTS + "gate_up_proj": bf16(4, 6, 5), EXPERTS + "down_proj": bf16(4, 5, 3, start=120)}


def per_expert() -> Tensors:
    gate_up, down = (packed()[EXPERTS + name].array() for name in ("gate_up_proj", "down_proj"))
    single = {}
    for expert in range(4):
        single[f"{EXPERTS}{expert}.gate_proj.weight"] = RawTensor.from_array(gate_up[expert, :3])
        single[f"{EXPERTS}{expert}.up_proj.weight"] = RawTensor.from_array(gate_up[expert, 3:])
        single[f"{EXPERTS}{expert}.down_proj.weight"] = RawTensor.from_array(down[expert])
    return single


def verdicts(source: Tensors, exported: Tensors) -> dict[str, Verdict]:
    return {
        finding.tensor.removeprefix(EXPERTS): finding.verdict for finding in compare(source, exported.items())
    }


def test_exact_both_ways() -> None:
    assert compare(packed(), packed().items()) == []
    assert compare(per_expert(), per_expert().items()) == []


def test_other_layout_is_a_flip() -> None:
    assert set(verdicts(packed(), per_expert()).values()) == {Verdict.FLIP}
    assert len(verdicts(packed(), per_expert())) == 2 + 12
    assert set(verdicts(per_expert(), packed()).values()) == {Verdict.FLIP}


def test_other_layout_with_a_wrong_value_is_wrong() -> None:
    exported = per_expert()
    exported[EXPERTS + "2.up_proj.weight"] = bf16(3, 5, start=7)
    found = verdicts(packed(), exported)
    assert found["gate_up_proj"] is Verdict.WRONG
    assert found["down_proj"] is Verdict.FLIP
    finding = next(f for f in compare(packed(), exported.items()) if f.tensor.endswith("gate_up_proj"))
    assert "2.up_proj.weight" in finding.detail


def test_other_layout_with_an_expert_missing_is_missing() -> None:
    exported = per_expert()
    del exported[EXPERTS + "3.down_proj.weight"]
    assert verdicts(packed(), exported)["down_proj"] is Verdict.MISSING


def test_second_copy_is_both_layouts() -> None:
    found = verdicts(packed(), packed() | per_expert())
    assert set(found.values()) == {Verdict.BOTH_LAYOUTS}
    assert set(verdicts(per_expert(), packed() | per_expert()).values()) == {Verdict.BOTH_LAYOUTS}


def test_missing_and_unexpected() -> None:
    source = per_expert()
    exported = {name: tensor for name, tensor in source.items() if ".3." not in name}
    exported["mtp.layers.0.embed_tokens.weight"] = bf16(2, 2)
    assert verdicts(source, exported) == {
        "3.gate_proj.weight": Verdict.MISSING,
        "3.up_proj.weight": Verdict.MISSING,
        "3.down_proj.weight": Verdict.MISSING,
        "mtp.layers.0.embed_tokens.weight": Verdict.UNEXPECTED,
    }


@pytest.mark.parametrize(
    ("change", "verdict", "detail"),
    [
        (lambda a: a.astype(np.float32), Verdict.DTYPE, "F32 instead of BF16, equal values"),
        (lambda a: a.astype(np.float32) + 1, Verdict.WRONG, "6 of 6 elements differ, first [0, 0]"),
        (lambda a: a.T, Verdict.WRONG, "shape [3, 2] instead of [2, 3]"),
        (lambda a: a[::-1], Verdict.WRONG, "first [0, 0]: 0x3f83"),
        (
            lambda a: np.where(np.arange(6).reshape(2, 3) == 4, np.nan, a).astype(a.dtype),
            Verdict.POISONED,
            "[1, 1]",
        ),
    ],
)
def test_one_tensor(change: Callable[[np.ndarray], np.ndarray], verdict: Verdict, detail: str) -> None:
    expected = bf16(2, 3)
    found = compare_tensor(expected, RawTensor.from_array(change(expected.array())))
    assert found[0] is verdict
    assert detail in found[1]


def test_first_difference_shows_index_and_both_bit_patterns() -> None:
    bits = bf16(2, 3).data.copy()
    bits[8] ^= 1  # the low byte of element [1, 1]
    verdict, detail = compare_tensor(bf16(2, 3), RawTensor("BF16", (2, 3), bits))
    assert verdict is Verdict.WRONG
    assert detail == "1 of 6 elements differ, first [1, 1]: 0x3f85 (1.0390625) instead of 0x3f84 (1.03125)"


def test_equal_numbers_are_not_equal_bytes() -> None:
    zero, minus_zero = (RawTensor.from_array(np.array([value], np.float32)) for value in (0.0, -0.0))
    verdict, detail = compare_tensor(zero, minus_zero)
    assert verdict is Verdict.WRONG
    assert "0x80000000" in detail


def test_nan_in_the_source_is_a_value_like_any_other() -> None:
    nan = RawTensor.from_array(np.array([np.nan, 1], ml_dtypes.bfloat16))
    assert compare_tensor(nan, nan) == (Verdict.EXACT, "")


def test_nan_survives_another_dtype() -> None:
    nan = np.array([np.nan, 1], ml_dtypes.bfloat16)
    verdict, _ = compare_tensor(RawTensor.from_array(nan), RawTensor.from_array(nan.astype(np.float32)))
    assert verdict is Verdict.DTYPE


@pytest.mark.parametrize(("stored", "found"), [(0x8000, 0x0000), (0x7FD5, 0x7FC0), (0x7FD5, 0xFFD5)])
def test_sign_of_zero_and_payload_of_nan_are_values_in_another_dtype_too(stored: int, found: int) -> None:
    expected = RawTensor.from_array(np.array([stored, 0x3F80], np.uint16).view(ml_dtypes.bfloat16))
    for bits, verdict in ((stored, Verdict.DTYPE), (found, Verdict.WRONG)):
        wide = RawTensor.from_array((np.array([bits, 0x3F80], np.uint32) << 16).view(np.float32))
        assert compare_tensor(expected, wide)[0] is verdict


def test_element_that_was_never_loaded_is_not_taken_for_a_nan_of_the_source() -> None:
    """What a model is filled with, 0x7fc0, is another NaN; where the source has a number, it is poison."""
    expected = RawTensor.from_array(np.array([0x7FD5, 0x3F80], np.uint16).view(ml_dtypes.bfloat16))
    for bits, verdict, detail in (
        (
            [0x7FC0, 0x3F80],
            Verdict.WRONG,
            "1 of 2 elements differ, first [0]: 0x7fc0 (nan) instead of 0x7fd5",
        ),
        ([0x7FC0, 0x7FC0], Verdict.POISONED, "1 of 2 elements are NaN, first [1]"),
    ):
        found = RawTensor.from_array(np.array(bits, np.uint16).view(ml_dtypes.bfloat16))
        assert compare_tensor(expected, found)[0] is verdict
        assert compare_tensor(expected, found)[1].startswith(detail)


def test_name_that_comes_twice_is_found() -> None:
    found = compare(
        {"a": bf16(2, start=5), "b": bf16(2)}, [("a", bf16(2)), ("b", bf16(2)), ("a", bf16(2, start=5))]
    )
    assert [(finding.tensor, finding.verdict, finding.detail) for finding in found] == [
        ("a", Verdict.UNEXPECTED, "came 2 times, not alike")
    ]


def test_of_a_name_that_comes_twice_the_last_tensor_counts() -> None:
    found = compare({"a": bf16(2)}, [("a", bf16(2)), ("a", bf16(2, start=5))])
    assert [finding.verdict for finding in found] == [Verdict.UNEXPECTED, Verdict.WRONG]
    assert found[0].detail == "came 2 times, not alike"


@given(st.lists(st.sampled_from(Verdict)))
def test_worst_is_the_gravest(some: list[Verdict]) -> None:
    gravest = worst(some)
    assert gravest in [*some, Verdict.EXACT]
    assert all(verdict.severity <= gravest.severity for verdict in some)


@given(st.integers(0, 4 * 6 * 5 * 2 - 1), st.integers(1, 255))
def test_no_changed_byte_escapes(position: int, change: int) -> None:
    exported = packed()
    data = exported[EXPERTS + "gate_up_proj"].data.copy()
    data[position] ^= change
    exported[EXPERTS + "gate_up_proj"] = RawTensor("BF16", (4, 6, 5), data)
    assert set(verdicts(packed(), exported)) == {"gate_up_proj"}

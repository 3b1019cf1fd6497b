"""Declared exceptions: counted where they happen, an error where they do not."""

from dataclasses import replace
from fnmatch import fnmatchcase

import ml_dtypes
import numpy as np
import pytest

from mtp_regression.adapters import DECLARED_OF_MEGATRON_BRIDGE
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.roundtrip.declared import (
    CONDITIONS,
    DeclaredException,
    read_declared,
    sort_findings,
)

A_LOG = DeclaredException(
    releases=["1.*"],
    checks=["*-tp1::stream"],
    tensor="*.A_log",
    when="f32-fits-bf16",
    verdict=Verdict.DTYPE,
    reason="kept in BF16",
)
NAMES = ["layers.0.A_log", "layers.1.A_log", "layers.0.norm"]
SOURCE = {name: RawTensor.from_array(np.array([0.5, 1.5], np.float32)) for name in NAMES}


def found(*verdicts: Verdict) -> list[Finding]:
    return [Finding(name, verdict) for name, verdict in zip(NAMES, verdicts, strict=False)]


def test_covered_findings_are_declared() -> None:
    held = sort_findings(found(Verdict.DTYPE, Verdict.DTYPE), SOURCE, [A_LOG])
    assert (len(held.declared), held.undeclared, held.stale) == (2, (), ())


def test_another_verdict_is_not_covered() -> None:
    held = sort_findings(found(Verdict.DTYPE, Verdict.WRONG), SOURCE, [A_LOG])
    assert [finding.tensor for finding in held.undeclared] == ["layers.1.A_log"]
    assert [tensor for tensor, _ in held.stale] == ["layers.1.A_log"]


def test_exception_that_no_longer_happens_is_stale() -> None:
    held = sort_findings(found(Verdict.DTYPE), SOURCE, [A_LOG])
    assert held.stale == (("layers.1.A_log", "kept in BF16"),)


def test_tensor_that_the_condition_leaves_out_must_be_exact() -> None:
    source = SOURCE | {"layers.1.A_log": RawTensor.from_array(np.array([1.0001, 2], np.float32))}
    held = sort_findings(found(Verdict.DTYPE, Verdict.DTYPE), source, [A_LOG])
    assert [finding.tensor for finding in held.declared] == ["layers.0.A_log"]
    assert [finding.tensor for finding in held.undeclared] == ["layers.1.A_log"]
    assert not held.stale


@pytest.mark.parametrize(
    ("value", "dtype", "holds"),
    [
        (1.5, np.float32, {"f32-fits-bf16", "f32-fits-bf16-minus-one"}),
        (1.5, ml_dtypes.bfloat16, set()),
        (1.0001, np.float32, {"exceeds-bf16", "exceeds-bf16-minus-one"}),
        (0.2001953125, ml_dtypes.bfloat16, {"exceeds-bf16-minus-one"}),
        (0.2001953125, np.float32, {"f32-fits-bf16", "exceeds-bf16-minus-one"}),
    ],
)
def test_conditions(value: float, dtype: type, holds: set[str]) -> None:
    tensor = RawTensor.from_array(np.array([1, value], dtype))
    assert {name for name, condition in CONDITIONS.items() if condition(tensor)} == holds


@pytest.mark.parametrize(
    ("case", "applies"),
    [
        ({}, True),
        ({"release": "2.0"}, False),
        ({"check": "packed-tp1::saved"}, False),
        ({"check": "packed-tp2::stream"}, False),
    ],
)
def test_exception_applies_to_its_case_alone(case: dict[str, str], applies: bool) -> None:
    of = {"release": "1.2.3", "check": "packed-tp1::stream"}
    assert A_LOG.applies(**of | case) is applies


def test_reason_is_required() -> None:
    with pytest.raises(ValueError, match="has no reason"):
        replace(A_LOG, reason=" ")
    with pytest.raises(ValueError, match="'sometimes' is none of"):
        replace(A_LOG, when="sometimes")


def test_no_shipped_exception_touches_mtp() -> None:
    shipped = read_declared(DECLARED_OF_MEGATRON_BRIDGE)
    assert shipped
    for entry in shipped:
        if entry.checks == ["*::files"]:
            assert not fnmatchcase("config.json: text_config.mtp_num_hidden_layers", entry.tensor)
        else:
            assert "linear_attn" in entry.tensor, "MTP layers attend in full: they have no linear_attn tensor"


def test_what_is_not_strict_covers_its_verdict_and_is_never_stale() -> None:
    may = replace(
        A_LOG, checks=["*::files"], tensor="tokenizer.json: *", verdict=Verdict.WRONG, when="", strict=False
    )
    lost, other = (
        Finding("tokenizer.json: decoder", verdict) for verdict in (Verdict.WRONG, Verdict.MISSING)
    )
    held = sort_findings([lost, other], {}, [may])
    assert (held.declared, held.undeclared, held.stale) == ((lost,), (other,), ())
    assert sort_findings([], {}, [may]).stale == ()

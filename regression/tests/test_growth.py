"""What is done grows no faster than the work: calls are counted at two sizes, and no time is measured."""

import gc
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from mtp_checkpoint.layouts.keys import parse
from mtp_fixtures import CheckpointSpec
from mtp_fixtures.model.mlp import Moe
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.maintenance.bench import memory, subjects
from mtp_regression.maintenance.bench.growth import least, slope_of
from mtp_regression.oracle import claims
from mtp_regression.provenance import elsewhere
from mtp_regression.reporting.folding.fold import fold
from mtp_regression.roundtrip.declared import DeclaredException, sort_findings

from .test_terminal import EXACT


def lines(do: Callable[[], object]) -> int:
    """Count the lines of the kit that are run; those of a comprehension once for each element."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "mtp_" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


class Name(str):
    """A name that counts how often it is compared."""

    times = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        type(self).times += 1
        return str.__eq__(self, other)


def linear(small: float, large: float, factor: float) -> bool:
    """Whether something took, for so many times the work, at most half as much again of so many times."""
    return 0 < small <= large <= 1.5 * factor * small


def letters(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "abcdefghij"))


def test_findings_of_which_no_two_are_alike_are_folded() -> None:
    def fold_of(count: int) -> int:
        sides = Verdict.MISSING, Verdict.UNEXPECTED
        found = [Finding(f"{letters(n // 2)}.weight", sides[n % 2]) for n in range(count)]
        record = replace(EXACT, verdict=Verdict.MISSING, tensors=found)
        return lines(lambda: [*map(str, fold([record]))])

    assert linear(fold_of(100), fold_of(400), 4)


def test_findings_are_held_against_what_is_declared_of_source_tensors() -> None:
    def compared(count: int) -> int:
        tensor = RawTensor.from_array(np.full(1, 0.1, np.float32))  # BF16 cannot hold it
        source: dict[str, RawTensor] = {Name(f"w{n}"): tensor for n in range(count)}
        found = [Finding(Name(f"w{n}"), Verdict.WRONG) for n in range(count)]
        entry = DeclaredException(checks="*", tensor="w*", when="exceeds-bf16", reason="rounded")
        Name.times = 0
        held = sort_findings(found, source, [entry])
        assert (len(held.declared), held.stale) == (count, ())
        return Name.times

    assert linear(compared(100), compared(400), 4)


def test_rows_are_not_looked_for_among_too_many_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "_SORTED_AT_MOST", 10)

    def looked(count: int) -> int:
        tensors = {f"w{n}": RawTensor.from_array(np.full((2, 2), n, np.float32)) for n in range(count)}
        others = elsewhere.Elsewhere(tensors)
        rows, at = np.zeros((1, 2), np.uint32), np.zeros(1, np.int64)
        return lines(lambda: [others.with_rows(name, tensor, rows, at) for name, tensor in tensors.items()])

    assert linear(looked(50), looked(200), 4)


def test_wrong_parameters_that_nothing_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Counter[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any) -> Any:
            times[name] += 1
            return function(*args)

        return count

    monkeypatch.setattr(claims, "parse", counted("parse", parse))
    begin = claims.NativeOrigins._begin
    monkeypatch.setattr(claims.NativeOrigins, "_begin", counted("begin", begin))

    def looked(experts: int) -> tuple[int, Counter[str]]:
        spec = subjects.model(experts, 4)
        times.clear()
        with subjects.all_wrong(spec, Path("unused")) as work:
            work["oracle and origins"]()
        return len(spec.tensors), Counter(times)

    (few, small), (many, large) = looked(4), looked(16)
    for name in ("parse", "begin"):
        assert linear(small[name], large[name], many / few), name


@pytest.mark.parametrize("function", [memory.compare_export, memory.check_parameters])
@pytest.mark.parametrize("wrong", [False, True], ids=["exact", "wrong"])
def test_memory_is_a_few_of_the_largest_tensor(function: Callable[..., int], wrong: bool) -> None:
    spec = small_virtual()
    sizes = [tensor.byte_count for tensor in spec.tensors]
    function(spec=spec, wrong=wrong)  # what is imported and kept the first time
    tracemalloc.start()
    try:
        assert (function(spec=spec, wrong=wrong) > 0) is wrong
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * max(sizes) + 10_000_000 < sum(sizes) / 1.5


def small_virtual() -> CheckpointSpec:
    spec = memory.virtual(layers=8)
    geometry = spec.dimensions
    assert geometry is not None
    assert isinstance(geometry.text.mlp, Moe)
    mlp = replace(geometry.text.mlp, num_experts=16, moe_intermediate_size=128)
    text = replace(geometry.text, hidden_size=128, vocab_size=640, mlp=mlp)
    return replace(spec, dimensions=replace(geometry, text=text))


def test_slope_is_the_exponent_of_growth() -> None:
    assert slope_of([(10, 0.2), (100, 2), (1000, 20)]) == 1
    assert slope_of([(10, 0.2), (100, 20)]) == 2
    assert slope_of([(1, 0.001), (10, 0.2), (100, 2)]) == 1, "what is too short is left out"
    assert slope_of([(10, 0.001), (100, 0.01)]) is None


def test_what_is_measured_is_without_the_garbage_collector() -> None:
    found: list[bool] = []
    least(lambda: found.append(gc.isenabled()), time.process_time)
    assert found == [False] * 3
    assert gc.isenabled()

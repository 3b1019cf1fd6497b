"""What a wrong tensor may hold instead, asked in turn; each answer is verified against every element."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mtp_checkpoint.layouts.expert_layout import FP8_BLOCK
from mtp_checkpoint.layouts.keys import parse
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.provenance.elsewhere import Elsewhere
from mtp_regression.provenance.forms import (
    converted,
    said_of_rounding,
    said_of_scales,
    said_of_shape,
    said_of_transposition,
)
from mtp_regression.provenance.fused import said_of_shard, said_of_siblings
from mtp_regression.provenance.names import Names, experts_of
from mtp_regression.provenance.narrow import Pair, said_of_place, said_of_units
from mtp_regression.provenance.orders import WHOLE, Cut, Line, said_of_order, said_of_parts, said_of_runs
from mtp_regression.provenance.parts import Parts, Unit
from mtp_regression.provenance.rows import (
    Bits,
    Numbers,
    as_rows,
    column_hashes,
    equal,
    gathered,
    gathered_columns,
    row_hashes,
    same,
)
from mtp_regression.provenance.values import is_float, said_of_values

Claim = tuple[str, Callable[[], RawTensor]]
"""A sentence, and the tensor that is there if it is true."""
PASSED = "as in the checkpoint that was loaded, whatever the model holds"
NOT_RELOADED = "from the checkpoint before: never loaded anew"
_UNITS_AT_MOST = 4096


@dataclass(frozen=True)
class Shard:
    """What is known of a parameter of which ranks have shards.

    Attributes:
        whole: All of it, in its right order; None where the rank has it whole.
        cut: Which shard is the rank's.
        claims: What else may be there, the likeliest first; made one at a time.
    """

    whole: RawTensor | None = None
    cut: Cut = WHOLE
    claims: Iterable[Claim] = ()


@dataclass(frozen=True)
class _Wrong:
    """A tensor that is not what it should be, and what is known of it."""

    name: str
    expected: RawTensor
    actual: RawTensor
    shard: Shard


class Origins:
    """What a wrong tensor may hold instead."""

    def __init__(
        self,
        tensors: Tensors,
        *,
        before: Sequence[Tensors] = (),
        as_before: str = PASSED,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what there is to hold; nothing is read before something is wrong.

        Args:
            tensors: The checkpoint's, by name.
            before: What the tensors were before, if they were not the same, the last first.
            as_before: What is said of a tensor that is still as before.
            config: `config.json`, for the sizes of parts; without one they are unknown.
        """
        self._tensors, self._before, self._as_before = tensors, before, as_before
        self._names, self._elsewhere = Names(config), Elsewhere(tensors)
        quantization = (config or {}).get("quantization_config") or {}
        self._block = quantization.get("weight_block_size") or (FP8_BLOCK, FP8_BLOCK)

    def of(self, name: str, expected: RawTensor, actual: RawTensor, shard: Shard | None = None) -> str:
        """Say what a tensor holds instead of what it should.

        Args:
            name: Its name: a key, or a parameter's of Megatron-Core.
            expected: The right tensor.
            actual: What is there, which is not the same.
            shard: What else is known of a parameter.

        Returns:
            A sentence that is true of every element that it speaks of; "" if nobody knows.
        """
        # The bytes once: they may be made whenever they are asked for.
        expected, actual = (replace(tensor, content=tensor.data) for tensor in (expected, actual))
        wrong = _Wrong(name, expected, actual, shard or Shard())
        if any(name in before and same(before[name], actual) for before in self._before):
            return self._as_before
        if not math.prod(actual.shape) or not math.prod(expected.shape):
            return ""
        if expected.dtype != actual.dtype:
            return self._of_other_dtype(wrong)
        answers = self._of_equal_shape if expected.shape == actual.shape else self._of_other_shape
        return next(filter(None, answers(wrong)), "")

    def _of_other_dtype(self, wrong: _Wrong) -> str:
        """Say what a tensor of another dtype holds; nothing of one with equal values that is not FP8."""
        expected, actual = wrong.expected, wrong.actual
        if not (is_float(expected.dtype) and is_float(actual.dtype)):
            return ""
        if expected.dtype == "F8_E4M3" and expected.shape == actual.shape:
            scales = self._tensors.get(parse(wrong.name)._replace(scale=True).key)
            if said := said_of_scales(expected, actual, scales, self._block):
                return said
        as_actual = converted(expected, actual.dtype)
        if not same(converted(as_actual, expected.dtype), expected):
            return said_of_rounding(expected, actual)
        if same(as_actual, actual):
            return ""
        whole = wrong.shard.whole
        shard = replace(wrong.shard, whole=None if whole is None else converted(whole, actual.dtype))
        said = self.of(wrong.name, as_actual, actual, shard)
        return f"{said}, in {actual.dtype}" if said else ""

    def _of_other_shape(self, wrong: _Wrong) -> Iterator[str]:
        yield said_of_shape(wrong.expected, wrong.actual, wrong.shard.whole, wrong.shard.cut)
        yield from self._elsewhere_whole(wrong)

    def _elsewhere_whole(self, wrong: _Wrong) -> Iterator[str]:
        for sentence, made in wrong.shard.claims:
            if same(made(), wrong.actual):
                yield sentence
        other = self._elsewhere.find(wrong.name, wrong.actual)
        yield f"is {other}" if other else ""

    def _of_equal_shape(self, wrong: _Wrong) -> Iterator[str]:
        """Ask in turn; whoever takes an answer asks no more."""
        name, shape = wrong.name, wrong.expected.shape
        experts = experts_of(name, shape)
        want, have = (as_rows(tensor, 2 if experts else 1) for tensor in (wrong.expected, wrong.actual))
        pair = Pair(want, have, wrong.expected.dtype, partial(self._rows_elsewhere, wrong, have))
        yield said_of_values(want, have, pair.dtype)
        own, right = row_hashes(have), row_hashes(want)
        rows = Line("row", own, right, partial(gathered, have, want))
        count, (whole, cut) = len(want) // (experts or 1), (wrong.shard.whole, wrong.shard.cut)
        units = _units(self._parts(name, count, wrong.shard), experts)
        if whole is not None and whole.shape != shape:
            yield said_of_shard(self._names, name, have, own, whole, cut)
        else:
            if np.isin(own, right).all():
                parts = self._names.rows(name, count)
                yield said_of_parts(rows, parts, WHOLE, experts=experts or 1)
                yield said_of_units(pair, units, own, right)
                yield "" if experts else said_of_order(rows, parts, WHOLE)
            yield said_of_siblings(self._names, self._tensors, name, have, own)
        yield self._of_columns(name, want, have)
        yield said_of_transposition(want, have, shape)
        yield from self._elsewhere_whole(wrong)
        yield said_of_units(pair, units, own, right)
        yield said_of_runs(rows, lambda at, place: equal(have[at], want[place : place + at.stop - at.start]))
        yield said_of_place(pair, units)

    def _parts(self, name: str, count: int, shard: Shard) -> Parts:
        """Return the parts of a rank's rows."""
        if shard.whole is None or shard.whole.shape[0] == count:
            return self._names.rows(name, count)
        return self._names.rows(name, shard.whole.shape[0]).shard(shard.cut.count) or Parts({"": count})

    def _of_columns(self, name: str, want: Bits, have: Bits) -> str:
        if want.shape[1] < 2:
            return ""
        own, right = column_hashes(have), column_hashes(want)
        if not np.isin(own, right).all():
            return ""
        line = Line("column", own, right, partial(gathered_columns, have, want))
        parts = self._names.columns(name, len(own))
        said = said_of_parts(line, parts, WHOLE)
        if said.endswith("exchanged"):
            return f"halves exchanged: {said.removesuffix(' exchanged')}"
        return said.replace("rows", "columns") or said_of_order(line, parts, WHOLE)

    def _rows_elsewhere(self, wrong: _Wrong, have: Bits, at: Numbers) -> str:
        """Say which other tensor has some rows at the same places; or that they are as before."""
        rows, actual = have[at], wrong.actual
        for before in (before[wrong.name] for before in self._before if wrong.name in before):
            alike = (before.dtype, before.shape) == (actual.dtype, actual.shape)
            if alike and equal(rows, before.data.view(have.dtype).reshape(have.shape)[at]):
                return self._as_before
        other = self._elsewhere.with_rows(wrong.name, actual, rows, at)
        return f"as in {other}" if other else ""


def _units(parts: Parts, experts: int) -> list[Unit]:
    """List the units of all experts; without parts and heads if these are too many to look at one by one."""
    each = list(parts.units())
    if len(each) * max(1, experts) > _UNITS_AT_MOST:
        each = [Unit(None, "", None, slice(0, parts.total))]
    size = parts.total
    return [
        unit._replace(
            expert=expert, rows=slice(unit.rows.start + size * expert, unit.rows.stop + size * expert)
        )
        for expert in range(experts)
        for unit in each
    ] or each

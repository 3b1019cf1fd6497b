"""Sentences on tensors that are parts of a larger one: of a fused parameter, or of a rank's whole."""

from __future__ import annotations

from functools import partial

import numpy as np

from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.provenance.names import Names
from mtp_regression.provenance.orders import Cut, Line, said_of_order, said_of_parts
from mtp_regression.provenance.parts import stacked
from mtp_regression.provenance.rows import Bits, Hashes, Numbers, as_rows, equal, gathered, row_hashes


def said_of_shard(names: Names, name: str, have: Bits, own: Hashes, whole: RawTensor, cut: Cut) -> str:
    """Say of a rank's shard that it is another of the whole parameter.

    Args:
        names: The parts of the model's tensors.
        name: The parameter's.
        have: Its rows.
        own: Their hashes.
        whole: The right parameter.
        cut: Which shard of it is the rank's.
    """
    rows = as_rows(whole)
    if rows.shape[1] == have.shape[1]:
        right = row_hashes(rows)
        if not np.isin(own, right).all():
            return ""
        line = Line("row", own, right, partial(gathered, have, rows))
        parts = names.rows(name, len(rows))
        return said_of_parts(line, parts, cut) or said_of_order(line, parts, cut)
    if rows.shape[1] != have.shape[1] * cut.count:
        return ""
    for index, shard in enumerate(np.split(rows, cut.count, axis=1)):
        if equal(have, shard):
            return f"shard of {cut.group} rank {index}"
    return ""


def said_of_siblings(names: Names, tensors: Tensors, name: str, have: Bits, own: Hashes) -> str:
    """Say of a tensor that is fused with others in Megatron-Core how it was cut from all their rows.

    Args:
        names: The parts of the model's tensors.
        tensors: The checkpoint's.
        name: The tensor's.
        have: Its rows.
        own: Their hashes.
    """
    siblings = [other for other in names.siblings(name) if other in tensors]
    if len(siblings) < 2 or name not in siblings:
        return ""
    rows = [as_rows(tensors[other]) for other in siblings]
    if any(bits.shape[1:] != have.shape[1:] or bits.dtype != have.dtype for bits in rows):
        return ""
    right = np.concatenate([row_hashes(bits) for bits in rows])
    parts = stacked([names.rows(other, len(bits)) for other, bits in zip(siblings, rows, strict=True)])
    if not np.isin(own, right).all() or parts.total != len(right):
        return ""
    starts = np.cumsum([0, *(len(bits) for bits in rows)])

    def proved(order: Numbers) -> bool:
        source = np.searchsorted(starts, order, side="right") - 1
        return all(
            np.array_equal(have[source == number], bits[order[source == number] - starts[number]])
            for number, bits in enumerate(rows)
        )

    line = Line("row", own, right, proved)
    start = starts[siblings.index(name)]
    for text, order in parts.others():
        said_of_all = not text or text.endswith("exchanged")  # of other tensors than this one too
        numbers = parts.rows(order)
        if not said_of_all and numbers is not None and line.holds(numbers[start : start + len(have)]):
            return f"cut from {text}"
    return ""

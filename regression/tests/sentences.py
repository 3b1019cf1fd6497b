"""Reads a sentence on a wrong tensor and looks, in plain loops, whether it is true of every element."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import ml_dtypes
import numpy as np

from mtp_regression.comparison.tensors import DTYPES, RawTensor

from .moved_sentences import is_moved, numbers_of

Array = Any
NARROW = {"BF16": ml_dtypes.bfloat16, "FP16": np.float16, "FP8 (E4M3)": ml_dtypes.float8_e4m3fn}
REST = "; the rest is right"


@dataclass
class Told:
    """A sentence's subject.

    Attributes:
        want: The right tensor, bit patterns, [rows, columns]; for `shape` see below.
        have: What is there.
        dtype: Of both.
        shape: The tensor's.
        parts: Rows of every part, in order, for one expert: (part, head or None, first, last + 1).
        fused: The rows that the tensor was cut from, by part; and where its own begin.
        others: Other tensors of the source.
        before: The same tensor as it was before.
    """

    want: Array
    have: Array
    dtype: str
    shape: tuple[int, ...]
    parts: list[tuple[str, int | None, int, int]]
    fused: tuple[dict[str, Array], int]
    others: dict[str, RawTensor]
    before: Array | None = None

    @property
    def experts(self) -> int:
        return self.shape[0] if len(self.shape) == 3 and self.shape[1] > 1 else 1

    def is_true(self, sentence: str) -> bool:
        if sentence.endswith((REST, " alone differs")) or sentence.startswith("only "):
            return self._of_places(sentence)
        clauses = sentence.split("; ")
        if self._place(clauses[0]) is not None:
            return all(map(self._clause, clauses))
        if len(clauses) > 1:
            return self._whole(clauses[0]) and all(map(self._clause, clauses[1:]))
        return self._whole(sentence)

    def _of_places(self, sentence: str) -> bool:
        """Whether the places that are named have all differences; and what is said of them."""
        wrong = self.want != self.have
        clauses = sentence.removesuffix(REST).split("; ")
        if alone := re.fullmatch(r"(?:only (.*) differs?|(.*) alone differs)", clauses[0]):
            text = alone[1] or alone[2]
            mask = self._named(text)
            return mask is not None and not wrong[~mask].any() and bool(wrong.any())
        if match := re.fullmatch(r"(half of it|(\d+) of (\d+) elements) NaN: never loaded", clauses[0]):
            nan = self._nan(self.have) & ~self._nan(self.want)
            count = self.have.size // 2 if match[1] == "half of it" else int(match[2])
            return bool(nan.sum() == count and not wrong[~nan].any())
        masks = [self._place(clause) for clause in clauses]
        if any(mask is None for mask in masks):
            moved = clauses[0]
            rest = [mask for mask in masks if mask is not None]
            return len(rest) == len(masks) - 1 and self._whole(moved) and all(map(self._clause, clauses[1:]))
        return not wrong[~np.logical_or.reduce([mask for mask in masks if mask is not None])].any() and all(
            map(self._clause, clauses)
        )

    def _clause(self, clause: str) -> bool:
        mask = self._place(clause)
        assert mask is not None, clause
        said = re.search(r"(?:: | )((?:all |NaN: ).*)$|: (.*)$", clause)
        assert said is not None, clause
        text = said[1] or said[2]
        if text.startswith("as in "):
            return self._alike(text, mask)
        return self._values(text, self.want[mask], self.have[mask])

    def _alike(self, text: str, mask: Array) -> bool:
        if text.startswith("as in the checkpoint that was loaded"):
            return self.before is not None and bool((self.before[mask] == self.have[mask]).all())
        other = self.others[text.removeprefix("as in ")].data.view(self.have.dtype).reshape(self.have.shape)
        return bool((other[mask] == self.have[mask]).all())

    def _place(self, clause: str) -> Array | None:
        text = re.split(r": | all | NaN", clause)[0]
        return self._named(text)

    def _named(self, text: str) -> Array | None:
        """Return which elements a place is; None if it is no place."""
        mask = np.ones(self.want.shape, bool)
        rows, columns = mask.shape
        each = rows // self.experts
        for part in text.split(" in "):
            if match := re.fullmatch(r"(\d+) of (\d+) (rows|columns)", part):
                axis = 1 if match[3] == "rows" else 0
                wrong = (self.want != self.have).any(axis=axis)
                assert (int(match[1]), int(match[2])) == (wrong.sum(), mask.shape[1 - axis])
                mask &= wrong[:, None] if axis else wrong
            elif match := re.fullmatch(r"columns? ([\d, -]+)", part):
                mask &= np.isin(np.arange(columns), numbers_of(match[1]))
            elif match := re.fullmatch(r"(rows? ([\d, -]+)|\d+ rows)(?: of (.*))?", part):
                unit = self.unit(match[3]) if match[3] else np.ones(rows, bool)
                if unit is None:
                    return None
                if not match[2]:
                    mask &= unit[:, None]
                    continue
                named = np.zeros(rows, bool)
                if match[3] and match[3].startswith("expert") and "'" not in match[3]:
                    named = unit & np.isin(np.arange(rows) % each, numbers_of(match[2]))
                else:
                    named[np.flatnonzero(unit)[numbers_of(match[2])]] = True
                mask &= named[:, None]
            elif (unit := self.unit(part)) is not None:
                mask &= unit[:, None]
            else:
                return None
        return mask

    def unit(self, text: str) -> Array | None:
        """Return the rows of experts, parts and heads."""
        match = re.fullmatch(
            r"(?:experts? (?P<before>[\d, -]+)(?:'s )?)?(?P<parts>[a-z ]*?)"
            r"(?: ?heads? (?P<heads>[\d, -]+))?(?: ?of experts? (?P<after>[\d, -]+))?",
            text,
        )
        if not match or not text:
            return None
        names = {part for part, *_ in self.parts}
        parts = set(match["parts"].strip().split(" and ")) if match["parts"].strip() else names
        experts = match["before"] or match["after"]
        if not parts <= names or (experts and self.experts == 1):
            return None
        numbers = numbers_of(experts) if experts else range(self.experts)
        heads = numbers_of(match["heads"]) if match["heads"] else None
        each = len(self.want) // self.experts
        mask = np.zeros(len(self.want), bool)
        for expert in numbers:
            for part, head, first, end in self.parts:
                if part in parts and (heads is None or head in heads):
                    mask[expert * each + first : expert * each + end] = True
        return mask

    def _nan(self, bits: Array) -> Array:
        return np.isnan(bits.view(DTYPES[self.dtype]).astype(np.float64))

    def _values(self, text: str, want: Array, have: Array) -> bool:
        """Whether a sentence on every element is true."""
        dtype = DTYPES[self.dtype]
        numbers, held = (bits.view(dtype).astype(np.float32) for bits in (want, have))
        if text == "NaN: never loaded":
            return bool(np.isnan(held).all())
        if text == "all zero":
            return not have.any()
        if match := re.fullmatch(r"all (.*)", text):
            return len(np.unique(have)) == 1 and float(match[1]) == held.reshape(-1)[0]
        with np.errstate(all="ignore"):
            becomes = _become(text, numbers, held, dtype)
        if becomes is None:
            return False
        right = becomes.astype(dtype).view(want.dtype) if becomes.dtype == np.float32 else becomes
        return bool(((right == have) | (np.isnan(numbers) & np.isnan(held))).all())

    def _whole(self, sentence: str) -> bool:
        if sentence == "as in the checkpoint that was loaded, whatever the model holds":
            return self.before is not None and bool((self.before == self.have).all())
        if sentence.startswith("is "):
            other = self.others[sentence.removeprefix("is ")]
            return other.shape == self.shape and bool(
                (other.data == self.have.reshape(-1).view(np.uint8)).all()
            )
        return self._values(sentence, self.want, self.have) or is_moved(self, sentence)


def _become(text: str, want: Array, have: Array, dtype: Any) -> Array | None:
    """Return what elements are after what a sentence says, in F32; None if it is no such sentence."""
    smallest = float(ml_dtypes.finfo(dtype).smallest_normal)
    subnormal = (np.abs(want) < smallest) & (want != 0)
    negative_zero = (want == 0) & np.signbit(want)
    flush, lost = "subnormal numbers flushed to zero", "negative zeros lost"
    zero = np.where(have == 0, have, np.float32(0))  # of either sign
    simple: dict[str, Callable[[], Array]] = {
        flush: lambda: np.where(subnormal, zero, want),
        lost: lambda: np.where(negative_zero, np.float32(0), want),
        f"{flush}, {lost}": lambda: np.where(subnormal | negative_zero, np.float32(0), want),
        "1 was added": lambda: want + np.float32(1),
        "1 was subtracted": lambda: want - np.float32(1),
        "every sign changed": lambda: -want,
        "signs lost": lambda: np.abs(want),
    }
    if text in simple:
        return simple[text]()
    if match := re.fullmatch(r"rounded through (.*)", text):
        return want.astype(NARROW[match[1]]).astype(np.float32) if match[1] in NARROW else None
    if match := re.fullmatch(r"multiplied by (-?)(1/)?(?:sqrt\((\d+)\)|(\d+))(?:/(\d+))?", text):
        number = sqrt(int(match[3])) if match[3] else float(match[4])
        number = 1 / number if match[2] else number / int(match[5] or 1)
        return want * np.float32(-number if match[1] else number)
    return None

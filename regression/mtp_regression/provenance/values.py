"""What has been done to every element of a tensor: rounded, flushed, multiplied, never loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtp_regression.comparison.elements import BLOCK
from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.provenance.rows import Bits

ROUNDED = {"BF16": "BF16", "F16": "FP16", "F8_E4M3": "FP8 (E4M3)"}
"""What sentences call the dtypes that something may be rounded through."""
_SIGNIFICANT = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8, "F8_E4M3": 4}
_FRACTION_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7, "F8_E4M3": 3}
_SAMPLE = 512
_LARGEST_DENOMINATOR = 64


class _Change(NamedTuple):
    """A sentence, and what it says becomes of elements; whether a NaN may have become another NaN."""

    sentence: str
    of: Callable[[Bits], Bits]
    computed: bool = False


def is_float(dtype: str) -> bool:
    """Whether elements have a fraction."""
    return dtype in _SIGNIFICANT


def nans(bits: Bits, dtype: str) -> NDArray[np.bool_]:
    """Say which elements are NaN."""
    if not is_float(dtype):
        return np.zeros(bits.shape, np.bool_)
    found: NDArray[np.bool_] = np.isnan(decoded(bits, dtype))
    return found


def decoded(bits: Bits, dtype: str) -> NDArray[Any]:
    """Return the numbers, of a floating-point dtype, in F32; F64 as they are."""
    values = bits.view(DTYPES[dtype])
    with np.errstate(invalid="ignore"):
        return values if dtype == "F64" else values.astype(np.float32)


def encoded(values: NDArray[Any], dtype: str) -> Bits:
    """Round numbers to a dtype, to nearest even; return bit patterns."""
    with np.errstate(all="ignore"):
        return values.astype(DTYPES[dtype]).view(f"u{DTYPES[dtype].itemsize}")


def said_of_values(want: Bits, have: Bits, dtype: str, *, least: int = 1) -> str:
    """Say what became of every element.

    Args:
        want: The right bit patterns, of any shape.
        have: Those that are there, of the same shape; not all are right.
        dtype: Safetensors' name of the dtype of both.
        least: Of fewer elements only that they are all the same is said: more would be chance.

    Returns:
        A sentence that is true of every element, or "".
    """
    if constant := _constant(have, dtype):
        return constant
    if not is_float(dtype) or want.size < least:
        return ""
    want, have = want.reshape(-1), have.reshape(-1)
    sample = _sample(want, have)
    few = want[sample], have[sample]
    for change in (*_changes(dtype), *_products(*few, dtype)):
        if _is(change, *few, dtype) and all(
            _is(change, want[start : start + BLOCK], have[start : start + BLOCK], dtype)
            for start in range(0, want.size, BLOCK)
        ):
            return change.sentence
    return ""


def said_of_one(tensor: RawTensor) -> str:
    """Say of a tensor of which the right one is not known that all its elements are the same."""
    size = DTYPES[tensor.dtype].itemsize
    return _constant(tensor.data.view(f"u{size}"), tensor.dtype) if math.prod(tensor.shape) else ""


def _constant(have: Bits, dtype: str) -> str:
    """Say of elements that are all the same what they are."""
    first = have.reshape(-1)[:1]
    if is_float(dtype) and nans(first, dtype)[0]:
        whole = (nans(have[start : start + _lines(have)], dtype).all() for start in _starts(have))
        return "NaN: never loaded" if all(whole) else ""
    if (have.size < 2 and first[0]) or any(
        (have[s : s + _lines(have)] != first[0]).any() for s in _starts(have)
    ):
        return ""
    number = float(first.view(DTYPES[dtype]).astype(np.float64)[0])
    return f"all {str(number).removesuffix('.0')}" if first[0] else "all zero"


def _lines(bits: Bits) -> int:
    return max(1, BLOCK * len(bits) // max(1, bits.size))


def _starts(bits: Bits) -> range:
    return range(0, len(bits), _lines(bits))


def _sample(want: Bits, have: Bits) -> NDArray[np.intp]:
    """Choose elements at which a claim is tried first: some that differ, and some that may not."""
    differing: list[NDArray[np.intp]] = []
    for start in range(0, want.size, BLOCK):
        part = slice(start, start + BLOCK)
        if len(found := np.flatnonzero(want[part] != have[part])):
            differing.append(found[:_SAMPLE] + start)
            break
    spread = np.arange(0, want.size, max(1, want.size // _SAMPLE))
    return np.concatenate([*differing, spread])


def _is(change: _Change, want: Bits, have: Bits, dtype: str) -> bool:
    unlike = change.of(want) != have
    if change.computed and unlike.any():
        unlike &= ~(nans(want, dtype) & nans(have, dtype))
    return not unlike.any()


def _changes(dtype: str) -> Iterator[_Change]:
    """Yield what may have become of elements, the likeliest first."""
    fraction, bits = _FRACTION_BITS[dtype], 8 * DTYPES[dtype].itemsize
    sign, ones = 1 << (bits - 1), (1 << bits) - 1
    exponent = ones ^ sign ^ ((1 << fraction) - 1)

    def subnormal(want: Bits) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = ((want & exponent) == 0) & ((want & (sign ^ ones)) != 0)
        return found

    def positive_zero(want: Bits) -> Bits:
        return np.where(want == sign, want.dtype.type(0), want)

    def flushed(want: Bits) -> Bits:
        return np.where(subnormal(want), want & sign, want)

    for narrow, name in ROUNDED.items():
        if _SIGNIFICANT[narrow] < _SIGNIFICANT[dtype] or (dtype, narrow) == ("BF16", "F16"):
            yield _Change(f"rounded through {name}", partial(_through, dtype=dtype, narrow=narrow), True)
    if dtype == "F32":
        yield _Change("rounded through TF32", _through_tf32)
    flush = "subnormal numbers flushed to zero"
    yield _Change(flush, flushed)
    yield _Change(flush, lambda want: np.where(subnormal(want), want.dtype.type(0), want))
    yield _Change("negative zeros lost", positive_zero)
    yield _Change(f"{flush}, negative zeros lost", lambda want: positive_zero(flushed(want)))
    for sentence, number in (("1 was added", 1), ("1 was subtracted", -1)):
        yield _Change(sentence, partial(_plus, number=number, dtype=dtype), True)
    yield _Change("every sign changed", lambda want: want ^ want.dtype.type(sign))
    yield _Change("signs lost", lambda want: want & want.dtype.type(sign ^ ones))
    if bits > 8:
        yield _Change("the bytes of every element in the other order", lambda want: want.byteswap())


def _through(want: Bits, dtype: str, narrow: str) -> Bits:
    with np.errstate(all="ignore"):
        rounded = decoded(want, dtype).astype(DTYPES[narrow])
        return encoded(rounded.astype(np.float32), dtype)


def _through_tf32(want: Bits) -> Bits:
    """Round to 10 bits of fraction, to nearest even; infinity and NaN are as they were."""
    odd = (want >> np.uint32(13)) & np.uint32(1)
    rounded = (want + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000)
    return np.where((want & np.uint32(0x7F800000)) == 0x7F800000, want, rounded)


def _plus(want: Bits, number: int, dtype: str) -> Bits:
    values = decoded(want, dtype)
    with np.errstate(all="ignore"):
        return encoded(values + values.dtype.type(number), dtype)


def _products(want: Bits, have: Bits, dtype: str) -> Iterator[_Change]:
    """Yield products with the numbers that some elements suggest: small fractions, and roots of them."""
    with np.errstate(all="ignore"):
        wanted, held = (decoded(bits, dtype).astype(np.float64) for bits in (want, have))
        usable = np.isfinite(wanted) & np.isfinite(held) & (wanted != 0) & (held != 0) & (wanted != held)
    at = np.flatnonzero(usable)
    for place in at[np.argsort(-np.abs(wanted[at]))][:4]:
        ratio = float(held[place] / wanted[place])
        if not 2.0**-20 < abs(ratio) < 2.0**20:
            continue
        for text, number in _numbers(ratio):
            yield _Change(f"multiplied by {text}", partial(_times, number=number, dtype=dtype), True)


def _numbers(ratio: float) -> Iterator[tuple[str, float]]:
    """Yield numbers that are near a ratio, and how they are written."""
    power = 2.0 ** round(math.log2(abs(ratio)))
    if abs(abs(ratio) - power) < 0.01 * power:
        text = f"{power:g}" if power >= 1 else f"1/{1 / power:g}"
        yield (f"-{text}" if ratio < 0 else text), math.copysign(power, ratio)
    plain = Fraction(ratio).limit_denominator(_LARGEST_DENOMINATOR)
    for text, number in ((str(plain), float(plain)), _root(ratio)):
        if number and abs(number) < 2.0**20:
            yield text, number


def _root(ratio: float) -> tuple[str, float]:
    """Return the root of a whole number, or 1 divided by it, that is nearest to a ratio."""
    square = round(ratio**2 if abs(ratio) > 1 else ratio**-2)
    root = math.copysign(math.sqrt(square), ratio)
    sign = "-" if ratio < 0 else ""
    return (f"{sign}sqrt({square})", root) if abs(ratio) > 1 else (f"{sign}1/sqrt({square})", 1 / root)


def _times(want: Bits, number: float, dtype: str) -> Bits:
    values = decoded(want, dtype)
    with np.errstate(all="ignore"):
        return encoded(values * values.dtype.type(number), dtype)

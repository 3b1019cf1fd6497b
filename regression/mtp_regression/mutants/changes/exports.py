"""Mistakes of the way out, as changes of what is exported: any bridge can make them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX
from mtp_checkpoint.layouts.keys import EMBEDDING, HEAD, parse
from mtp_regression.in_memory.conversions import BF16, Array
from mtp_regression.in_memory.fp8 import E4M3, dequantize
from mtp_regression.mutants.mutant import Changed, Stream

PACKED = r"^mtp\..*experts\.(gate_up|down)_proj$"
"""Packed experts of MTP."""


def each(pattern: str, change: Callable[[Array], Array]) -> Changed:
    """Change the tensors whose keys have a pattern in them."""

    def tensors(stream: Stream) -> Iterator[tuple[str, Array]]:
        for key, tensor in stream:
            yield key, change(tensor) if re.search(pattern, key) else tensor

    return Changed(tensors)


def dropped(pattern: str) -> Changed:
    """Leave the tensors out whose keys have a pattern in them."""
    return Changed(lambda stream: (item for item in stream if not re.search(pattern, item[0])))


def renamed(pattern: str, to: Callable[[re.Match[str]], str] | str) -> Changed:
    """Give tensors other keys; what a pattern has of them is replaced."""
    return Changed(lambda stream: ((re.sub(pattern, to, key), tensor) for key, tensor in stream))


def added(pattern: str, make: Callable[[str, Array], dict[str, Array]]) -> Changed:
    """Export something more beside the tensors whose keys have a pattern in them."""

    def tensors(stream: Stream) -> Iterator[tuple[str, Array]]:
        for key, tensor in stream:
            yield key, tensor
            if re.search(pattern, key):
                yield from make(key, tensor).items()

    return Changed(tensors)


def as_dtype(dtype: Any) -> Callable[[Array], Array]:
    """Write another dtype."""
    return lambda tensor: tensor.astype(dtype)


def through(dtype: Any) -> Callable[[Array], Array]:
    """Round through another dtype, and write the own."""

    def change(tensor: Array) -> Array:
        with np.errstate(over="ignore"):
            return tensor.astype(np.float32).astype(dtype).astype(tensor.dtype)

    return change


def scaled(factor: float) -> Callable[[Array], Array]:
    """Multiply by a number."""
    return lambda tensor: (tensor.astype(np.float32) * np.float32(factor)).astype(tensor.dtype)


def shifted(tensor: Array) -> Array:
    """Add 1."""
    return (tensor.astype(np.float32) + np.float32(1)).astype(tensor.dtype)


def one_bit(tensor: Array) -> Array:
    """Change the last bit of one element."""
    changed = tensor.copy()
    bits = changed.view(f"u{tensor.itemsize}").reshape(-1)
    bits[len(bits) // 3] ^= 1
    return changed


def halves_exchanged(tensor: Array) -> Array:
    """Exchange the halves of the last axis but one: gate and up where they are packed."""
    return np.concatenate(np.split(tensor, 2, axis=-2)[::-1], axis=-2)


def columns_exchanged(tensor: Array) -> Array:
    """Exchange the halves of the last axis."""
    return np.concatenate(np.split(tensor, 2, axis=-1)[::-1], axis=-1)


def interleaved(tensor: Array) -> Array:
    """Put a row of up below every row of gate, where they are packed."""
    gate, up = np.split(tensor, 2, axis=-2)
    return np.stack((gate, up), axis=-2).reshape(tensor.shape)


def experts_swapped(tensor: Array) -> Array:
    """Exchange experts 2 and 5."""
    changed = tensor.copy()
    changed[[2, 5]] = tensor[[5, 2]]
    return changed


def last_expert_everywhere(tensor: Array) -> Array:
    """Write every expert over the one before."""
    return np.broadcast_to(tensor[-1], tensor.shape).copy()


def transposed(tensor: Array) -> Array:
    """Exchange the last two axes."""
    return np.ascontiguousarray(np.swapaxes(tensor, -1, -2))


def transposed_in_place(tensor: Array) -> Array:
    """Exchange the last two axes, and keep the shape."""
    return transposed(tensor).reshape(tensor.shape)


def padded(tensor: Array) -> Array:
    """Add rows of zeros up to a multiple of 128, or 128 of them."""
    rows = -len(tensor) % 128 or 128
    return np.concatenate((tensor, np.zeros((rows, *tensor.shape[1:]), tensor.dtype)))


def _gate_up(key: str, tensor: Array) -> Iterator[tuple[str, Array]]:
    root = key.rpartition(".")[0]
    for expert, matrix in enumerate(tensor):
        if key.endswith("down_proj"):
            yield f"{root}.{expert}.down_proj.weight", matrix.copy()
            continue
        for name, half in zip(("gate", "up"), np.split(matrix, 2), strict=True):
            yield f"{root}.{expert}.{name}_proj.weight", half.copy()


def unpacked(stream: Stream) -> Iterator[tuple[str, Array]]:
    """Write the packed experts of MTP one by one."""
    for key, tensor in stream:
        yield from _gate_up(key, tensor) if re.search(PACKED, key) else [(key, tensor)]


def unpacked_too(stream: Stream) -> Iterator[tuple[str, Array]]:
    """Write the packed experts of MTP one by one as well."""
    for key, tensor in stream:
        yield key, tensor
        yield from _gate_up(key, tensor) if re.search(PACKED, key) else ()


def packed(stream: Stream) -> Iterator[tuple[str, Array]]:
    """Write experts of MTP packed that are stored one by one."""
    experts: dict[str, dict[tuple[int, str], Array]] = {}
    for key, tensor in stream:
        place = parse(key)
        if key.startswith("mtp.") and place.expert is not None:
            root = key[: key.index("experts.") + len("experts.")]
            experts.setdefault(root, {})[place.expert, place.projection] = tensor
        else:
            yield key, tensor
    for root, of in experts.items():
        numbers = sorted({number for number, _ in of})
        halves = [np.concatenate((of[number, "gate"], of[number, "up"])) for number in numbers]
        yield f"{root}gate_up_proj", np.stack(halves)
        yield f"{root}down_proj", np.stack([of[number, "down"] for number in numbers])


def in_other_key(pattern: str, one: str, other: str) -> Changed:
    """Exchange two words in the keys that have a pattern in them."""

    def tensors(stream: Stream) -> Iterator[tuple[str, Array]]:
        names = {one: other, other: one}
        for key, tensor in stream:
            concerned = re.search(pattern, key)
            words = re.compile(f"{re.escape(one)}|{re.escape(other)}")
            yield words.sub(lambda match: names[match[0]], key) if concerned else key, tensor

    return Changed(tensors)


def named_locally(stream: Stream) -> Iterator[tuple[str, Array]]:
    """Call the experts of the second of two ranks as those of the first: the later ones win."""
    experts = {}
    for key, tensor in stream:
        place = parse(key)
        if key.startswith("mtp.") and place.expert is not None:
            experts[key] = place, tensor
        else:
            yield key, tensor
    half = (max(place.expert or 0 for place, _ in experts.values()) + 1) // 2
    for place, tensor in experts.values():
        if place.expert is not None and place.expert >= half:
            yield place._replace(expert=place.expert - half).key, tensor


def without_fp8(stream: Stream) -> Iterator[tuple[str, Array]]:
    """Write BF16 weights where the checkpoint has FP8 and scales."""
    waiting: dict[str, Array] = {}
    for key, tensor in stream:
        if tensor.dtype == E4M3:
            waiting[key] = tensor
        elif (weight := waiting.pop(key.removesuffix(SCALE_SUFFIX), None)) is not None:
            yield key.removesuffix(SCALE_SUFFIX), dequantize(weight, tensor).astype(BF16)
        else:
            yield key, tensor
    yield from waiting.items()


def head_too(key: str, tensor: Array) -> dict[str, Array]:
    """Write the output layer although it is the embedding."""
    assert key.endswith(EMBEDDING)
    return {HEAD: tensor.copy()}

"""What a wrong tensor holds is said in a true sentence, whatever happened to it."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtp_regression.comparison.tensors import DTYPES, RawTensor
from mtp_regression.provenance.names import Names, experts_of
from mtp_regression.provenance.origins import PASSED, Origins

from .sentences import Told

Array = Any
LAYER, LINEAR, MTP = (
    "model.language_model.layers.3.",
    "model.language_model.layers.0.linear_attn.",
    "mtp.layers.0.",
)
CONFIG = {
    "vocab_size": 8,
    "hidden_size": 6,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 3,
    "mrope_section": [],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 3,
    "linear_value_head_dim": 2,
    "intermediate_size": 5,
    "partial_rotary_factor": 0.25,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
}
SHAPES = {
    f"{MTP}mlp.experts.gate_up_proj": (4, 10, 6),
    f"{MTP}mlp.experts.down_proj": (4, 6, 5),
    "mtp.layers.1.mlp.experts.gate_up_proj": (4, 10, 6),
    f"{LAYER}self_attn.q_proj.weight": (24, 6),
    f"{LAYER}self_attn.k_proj.weight": (6, 6),
    f"{LAYER}self_attn.v_proj.weight": (6, 6),
    f"{LAYER}self_attn.o_proj.weight": (6, 12),
    f"{LAYER}mlp.gate_proj.weight": (5, 6),
    f"{LAYER}mlp.up_proj.weight": (5, 6),
    f"{LINEAR}in_proj_qkv.weight": (20, 6),
    f"{LINEAR}in_proj_z.weight": (8, 6),
    f"{LINEAR}in_proj_b.weight": (4, 6),
    f"{LINEAR}in_proj_a.weight": (4, 6),
    f"{LINEAR}conv1d.weight": (20, 1, 4),
    "mtp.fc.weight": (6, 12),
    f"{LAYER}mlp.gate.weight": (12, 12),
    f"{LAYER}input_layernorm.weight": (16,),
    "model.visual.blocks.0.attn.qkv.weight": (24, 4),
    "lm_head.weight": (9, 4),
}
NAMES = Names({**CONFIG, "vision_config": {"num_heads": 4}})


def drawn(shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    """Numbers of all kinds but NaN, few of them special."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=shape).astype(np.float32)
    for special in (0.0, -0.0, 1e-39, -3e-39, 70000.0):
        numbers[random.random(shape) < 0.01] = special
    with np.errstate(over="ignore"):
        return numbers.astype(DTYPES[dtype])


def source(dtype: str, seed: int = 0) -> dict[str, RawTensor]:
    return {
        name: RawTensor.from_array(drawn(shape, seed + number, dtype))
        for number, (name, shape) in enumerate(SHAPES.items())
    }


def told(name: str, right: RawTensor, wrong: Array, tensors: dict[str, RawTensor], before: Array) -> Told:
    """All that a sentence may speak of."""
    axes = 2 if experts_of(name, right.shape) else 1
    count = int(np.prod(right.shape[:axes]))
    want, have, was = (
        np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(count, -1)
        for array in (right.array(), wrong, before)
    )
    experts = experts_of(name, right.shape) or 1
    parts = [
        (unit.part, unit.head, unit.rows.start, unit.rows.stop)
        for unit in NAMES.rows(name, count // experts).units()
    ]
    fused: dict[str, Array] = {}
    begin = at = 0
    for sibling in NAMES.siblings(name):
        if sibling not in tensors:
            continue
        bits = tensors[sibling].array().view(have.dtype)
        begin = at if sibling == name else begin
        at += len(bits)
        for unit in NAMES.rows(sibling, len(bits)).units():
            own = bits[unit.rows]
            fused[unit.part] = np.concatenate([*([fused[unit.part]] if unit.part in fused else []), own])
    return Told(want, have, right.dtype, right.shape, parts, (fused, begin), tensors, was)


def _placed(of: Callable[[Array], Array]) -> Callable[[Array, Any], Array]:
    """A change of some neighbouring rows, or of an expert."""

    def change(array: Array, draw: Any) -> Array:
        changed = array.copy()
        first = draw(st.integers(0, len(array) - 1))
        some = slice(first, draw(st.integers(first + 1, len(array))))
        changed[some] = of(changed[some])
        return changed

    return change


def _split(array: Array, count: int, axis: int, order: Callable[[list[Array]], list[Array]]) -> Array:
    if array.ndim <= axis or array.shape[axis] % count:
        return array
    return np.concatenate(order(np.split(array, count, axis)), axis)


def _shuffled(array: Array, draw: Any) -> Array:
    axis = draw(st.integers(0, array.ndim - 1))
    return np.take(array, draw(st.permutations(range(array.shape[axis]))), axis)


def _interleaved(array: Array, count: int, axis: int) -> Array:
    if array.ndim <= axis or array.shape[axis] % count:
        return array
    moved = np.moveaxis(array, axis, 0)
    return np.moveaxis(np.concatenate([moved[start::count] for start in range(count)]), 0, axis)


def _computed(of: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        with np.errstate(all="ignore"):
            return of(array.astype(np.float32)).astype(array.dtype)

    return change


def _one(array: Array, draw: Any) -> Array:
    changed = array.copy()
    changed.reshape(-1)[draw(st.integers(0, array.size - 1))] = 0.75
    return changed


VALUES: list[Callable[[Array], Array]] = [
    np.zeros_like,
    lambda array: np.full_like(array, np.nan),
    np.ones_like,
    *(
        _computed(of)
        for of in (
            lambda numbers: numbers + 1,
            lambda numbers: numbers - 1,
            lambda numbers: -numbers,
            np.abs,
            lambda numbers: numbers * 0.5,
            lambda numbers: numbers / np.float32(np.sqrt(128)),
            lambda numbers: numbers.astype(np.float16).astype(np.float32),
            lambda numbers: numbers.astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
            lambda numbers: numbers.astype(ml_dtypes.bfloat16).astype(np.float32),
            lambda numbers: np.where(np.abs(numbers) < 1.2e-38, np.float32(0), numbers),
            lambda numbers: numbers + np.float32(0),
        )
    ),
    lambda array: array[::-1],
    lambda array: np.roll(array, 1),
    lambda array: np.swapaxes(array, -1, -2).reshape(array.shape) if array.ndim > 1 else array,
    lambda array: _split(array, 2, 0, lambda parts: [parts[0], parts[0]]),
    lambda array: _split(array, 4, 0, lambda parts: [parts[0], parts[1], parts[3], parts[3]]),
]
MOVES: list[Callable[[Array, Any], Array]] = [
    *(_placed(of) for of in VALUES[:15]),
    _one,
    _shuffled,
    lambda array, draw: np.roll(array, draw(st.integers(1, 5)), draw(st.integers(0, array.ndim - 1))),
    lambda array, draw: np.flip(array, draw(st.integers(0, array.ndim - 1))),
    lambda array, draw: _interleaved(array, draw(st.sampled_from([2, 3, 4, 5])), draw(st.integers(0, 1))),
    lambda array, draw: _split(
        array,
        draw(st.sampled_from([2, 3, 4, 6])),
        draw(st.integers(0, 1)),
        lambda parts: [parts[at] for at in draw(st.permutations(range(len(parts))))],
    ),
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_sentence_is_false(data: st.DataObject) -> None:
    """Of tensors that are changed at random, twice perhaps, or are another one, in part perhaps."""
    look(data)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_hashes_prove_nothing(data: st.DataObject) -> None:
    """No sentence is false where all rows, all columns and all parts have one hash."""
    with mock.patch("mtp_regression.provenance.rows._weights", lambda count: np.zeros(count, np.uint64)):
        look(data)


def look(data: st.DataObject) -> None:
    """Change a tensor, ask what it holds, and see whether that is so."""
    dtype = data.draw(st.sampled_from(["BF16", "F32", "F16"]))
    tensors, before = source(dtype), source(dtype, seed=1000)
    name = data.draw(st.sampled_from(list(SHAPES)))
    right = tensors[name]
    wrong = right.array()
    others = [other for other in tensors if other != name and SHAPES[other] == SHAPES[name]]
    for _ in range(data.draw(st.integers(1, 2))):
        kind = data.draw(st.sampled_from(["values", "moves", "moves", "other", "before"]))
        if kind == "values":
            wrong = data.draw(st.sampled_from(VALUES))(wrong)
            continue
        if kind == "moves":
            wrong = data.draw(st.sampled_from(MOVES))(wrong, data.draw)
            continue
        known = others if kind == "other" else []
        other = tensors[data.draw(st.sampled_from(known))] if known else before[name]
        first = data.draw(st.integers(0, len(wrong) - 1))
        wrong = np.concatenate([wrong[:first], other.array()[first:]])
    wrong = np.ascontiguousarray(wrong)
    if wrong.tobytes() == right.array().tobytes():
        return
    origins = Origins(tensors, before=[before], config={**CONFIG, "vision_config": {"num_heads": 4}})
    sentence = origins.of(name, right, RawTensor.from_array(wrong))
    if sentence:
        subject = told(name, right, wrong, tensors, before[name].array())
        assert subject.is_true(sentence), sentence


def test_what_is_as_before_is_said() -> None:
    before = source("BF16", seed=5)
    origins = Origins(source("BF16"), before=[before])
    for name, tensor in source("BF16").items():
        assert origins.of(name, tensor, before[name]) == PASSED

"""What the oracle expects of a whole rank, and how it compares."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import GRID, Coordinates, Parallel
from mtp_regression.scenarios.table import PIPELINES

from .native_arrays import ONE, Q35, Q36, SECOND_OF_TWO, TEXT, expected, stored


@pytest.fixture(scope="module")
def q36(checkpoints: dict[str, Path]) -> Path:
    return checkpoints[Q36]


MTP_IN_THE_MIDDLE = Parallel(pp=3, layout="Ett|ttm|L")
EMBEDDING, OUTPUT = "embedding.word_embeddings.weight", "output_layer.weight"


@pytest.mark.parametrize(
    ("preset", "options", "parallel", "pp", "ends"),
    [
        (Q36, {}, Parallel(), 0, {"0/" + EMBEDDING, "0/" + OUTPUT}),
        (Q36, {}, Parallel(pp=2, vpp=2), 0, {"0/" + EMBEDDING}),
        (Q36, {}, Parallel(pp=2, vpp=2), 1, {"1/" + EMBEDDING, "1/" + OUTPUT}),
        (Q36, {"mtp_layers": 0}, Parallel(pp=2), 1, {"0/" + OUTPUT}),
        ("qwen3.5-0.8b", {}, Parallel(tp=2), 0, {"0/" + EMBEDDING}),
        ("qwen3.5-0.8b", {}, Parallel(pp=2), 0, {"0/" + EMBEDDING}),
        ("qwen3.5-0.8b", {}, Parallel(pp=2), 1, {"0/" + EMBEDDING, "0/" + OUTPUT}),
        (Q36, {}, MTP_IN_THE_MIDDLE, 0, {"0/" + EMBEDDING}),
        (Q36, {}, MTP_IN_THE_MIDDLE, 1, {"0/" + EMBEDDING}),
        (Q36, {}, MTP_IN_THE_MIDDLE, 2, {"0/" + OUTPUT}),
        ("qwen3.5-0.8b", {}, MTP_IN_THE_MIDDLE, 2, {"0/" + OUTPUT}),
        (Q36, {}, Parallel(pp=2, layout="Ettttm|L"), 0, {"0/" + EMBEDDING}),
    ],
)
def test_ends_of_the_pipeline(
    preset: str,
    options: dict[str, Any],
    parallel: Parallel,
    pp: int,
    ends: set[str],
    make_checkpoint: MakeCheckpoint,
) -> None:
    folder = make_checkpoint(preset, **options)
    source, held = stored(folder), expected(folder, parallel, Coordinates(pp=pp, tp=parallel.tp - 1))
    assert {name for name in held if name.endswith((EMBEDDING, OUTPUT))} == ends
    rows = slice(320, 640) if parallel.tp == 2 else slice(0, 640)
    for name in ends:
        tied = "lm_head.weight" not in source
        key = "lm_head.weight" if name.endswith(OUTPUT) and not tied else TEXT + "embed_tokens.weight"
        assert np.array_equal(held[name], source[key][rows])
    assert any(".vision_model." in f".{name[2:]}" for name in held) is (pp == 0)
    with_last_layer = parallel.pp - (2 if parallel.layout else 1)
    assert any(name.endswith("decoder.final_layernorm.weight") for name in held) is (pp == with_last_layer)


def test_padded_vocabulary(q36: Path) -> None:
    """640 rows and a multiple of 2 * 384: 768, of which the second of two ranks has 256 and 128 of zeros."""
    source, held = stored(q36), expected(q36, *SECOND_OF_TWO, vocab_divisor=384)
    for name, key in ((EMBEDDING, TEXT + "embed_tokens.weight"), (OUTPUT, "lm_head.weight")):
        assert held["0/" + name].shape == (384, 168)
        assert np.array_equal(held["0/" + name][:256], source[key][384:])
        assert not held["0/" + name][256:].any()


def test_packed_experts_in_fp8_are_dequantized(make_checkpoint: MakeCheckpoint) -> None:
    """An expert's scales are a slice of a tensor; 272 rows of gate and up are blocks of 128, 128 and 16."""
    layouts: dict[str, Any] = dict.fromkeys(("mtp_experts", "decoder_experts"), "fp8-packed")
    folder = make_checkpoint("qwen3.6-35b-a3b-fp8", **layouts)
    source, held = stored(folder), expected(folder, *ONE)
    for prefix, name in (("mtp.layers.0.", "mtp.layers.0."), (TEXT + "layers.3.", "decoder.layers.3.")):
        for key, linear in (("gate_up_proj", "linear_fc1"), ("down_proj", "linear_fc2")):
            weight, scales = (source[f"{prefix}mlp.experts.{key}{suffix}"] for suffix in ("", "_scale_inv"))
            array = held[f"0/{name}mlp.experts.{linear}.weight5"]
            assert array.shape == weight.shape[1:]
            for row, column in product((0, 127, 128, 135, 136, array.shape[0] - 1), (0, 127, 128, -1)):
                block = scales[5, row // 128, column % array.shape[1] // 128]
                value = weight[5, row, column].astype(np.float32) * block.astype(np.float32)
                assert array[row, column] == value.astype(ml_dtypes.bfloat16)


def test_fp8_is_dequantized(make_checkpoint: MakeCheckpoint) -> None:
    """Element by element: E4M3 times the scale of its block, in F32, rounded once to BF16."""
    folder = make_checkpoint("qwen3.6-35b-a3b-fp8")
    source, held = stored(folder), expected(folder, *ONE)
    for key, name in (
        ("mtp.layers.0.mlp.experts.5.down_proj.weight", "0/mtp.layers.0.mlp.experts.linear_fc2.weight5"),
        (TEXT + "layers.3.self_attn.o_proj.weight", "0/decoder.layers.3.self_attention.linear_proj.weight"),
    ):
        weight, scales = source[key], source[key + "_scale_inv"]
        assert weight.dtype == ml_dtypes.float8_e4m3fn
        assert len(np.unique(scales)) == scales.size > 1
        for row, column in product(range(0, weight.shape[0], 9), range(0, weight.shape[1], 7)):
            product_ = np.float32(weight[row, column]) * np.float32(scales[row // 128, column // 128])
            assert held[name][row, column] == ml_dtypes.bfloat16(product_)


def test_fp8_without_its_scale_is_absent(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint("qwen3.6-35b-a3b-fp8")
    tensors = read_folder(folder)
    del tensors[TEXT + "layers.3.self_attn.o_proj.weight_scale_inv"]
    config = json.loads((folder / "config.json").read_text())
    name = "0/decoder.layers.3.self_attention.linear_proj.weight"
    recipes = {name: native_parameters(tensors, config, *ONE)[name]}
    (finding,) = check(recipes, [(name, RawTensor.from_array(np.zeros((168, 512), ml_dtypes.bfloat16)))])
    assert finding.verdict is Verdict.MISSING
    assert finding.detail == f"the checkpoint has no {TEXT}layers.3.self_attn.o_proj.weight_scale_inv"


@pytest.mark.parametrize(
    "options", [{"mtp_experts": "per-expert"}, {"decoder_experts": "per-expert"}], ids=str
)
def test_all_layouts_give_the_same_parameters(
    options: dict[str, Any], q36: Path, make_checkpoint: MakeCheckpoint
) -> None:
    other = expected(make_checkpoint(Q36, **options), Parallel(ep=2), Coordinates(ep=1))
    packed = expected(q36, Parallel(ep=2), Coordinates(ep=1))
    assert packed.keys() == other.keys()
    assert all(np.array_equal(packed[name], other[name]) for name in packed)


@pytest.mark.parametrize("preset", [Q36, "qwen3.6-27b"])
def test_text_only_is_the_same_without_vision(preset: str, make_checkpoint: MakeCheckpoint) -> None:
    """The same seed holds the same values, under keys without `language_model.`."""
    whole = expected(make_checkpoint(preset), *SECOND_OF_TWO)
    text_only = expected(make_checkpoint(preset, text_only=True), *SECOND_OF_TWO)
    assert text_only.keys() == {name for name in whole if "vision_model" not in name}
    assert all(np.array_equal(text_only[name], whole[name]) for name in text_only)


class Recording(Mapping[str, RawTensor]):
    """Tensors that remember which of them were asked for."""

    def __init__(self, tensors: Mapping[str, RawTensor]) -> None:
        self.tensors = tensors
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> RawTensor:
        self.read.add(name)
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@pytest.mark.parametrize("parallel", [*GRID, *PIPELINES], ids=str)
@pytest.mark.parametrize("preset", [Q35, "qwen3.6-35b-a3b-fp8"])
def test_ranks_together_read_the_whole_checkpoint(
    preset: str, parallel: Parallel, make_checkpoint: MakeCheckpoint
) -> None:
    folder = make_checkpoint(preset)
    tensors = Recording(read_folder(folder))
    config = json.loads((folder / "config.json").read_text())
    for pp, ep in product(range(parallel.pp), range(parallel.ep)):
        for recipe in native_parameters(tensors, config, parallel, Coordinates(pp=pp, ep=ep)).values():
            recipe()
    assert tensors.read == tensors.tensors.keys()


@pytest.mark.parametrize("parallel", [*GRID, *PIPELINES], ids=str)
def test_ranks_hold_every_element_of_the_experts_once(parallel: Parallel, q36: Path) -> None:
    places = product(range(parallel.pp), range(parallel.ep), range(parallel.etp))
    held, wanted = Counter[int](), Counter[int]()
    for pp, ep, etp in places:
        for name, array in expected(q36, parallel, Coordinates(pp=pp, ep=ep, etp=etp)).items():
            if ".mlp.experts." in name:
                held.update(array.view("<u2").reshape(-1).tolist())
    for name, tensor in read_folder(q36).items():
        if ".mlp.experts." in name:
            wanted.update(tensor.data.view("<u2").tolist())
    assert held == wanted


ONES = np.ones((2, 2), ml_dtypes.bfloat16)
RECIPES = {
    "0/decoder.layers.0.mlp.router.weight": lambda: ONES,
    "0/decoder.layers.0.mlp.experts.linear_fc1.weight7": lambda: ONES,
}
ROUTER, EXPERT = RECIPES
SEQUENTIAL = "0/decoder.layers.0.mlp.experts.local_experts.7.linear_fc1.weight"


def found(*parameters: tuple[str, np.ndarray]) -> list[tuple[str, str, str]]:
    findings = check(RECIPES, [(name, RawTensor.from_array(array)) for name, array in parameters])
    return [(f"{one.chunk}/{one.tensor}", str(one.verdict), one.detail) for one in findings]


def test_exact_parameters_give_no_finding() -> None:
    assert found((ROUTER, ONES), (EXPERT, ONES)) == []
    assert found((ROUTER, ONES), (SEQUENTIAL, ONES)) == []


def test_wrong_value_is_named() -> None:
    ((name, verdict, detail),) = found((ROUTER, ONES), (SEQUENTIAL, ONES * 2))
    assert (name, verdict) == (SEQUENTIAL, "wrong")
    assert "4 of 4 elements differ" in detail


def test_other_dtype_is_named() -> None:
    assert found((ROUTER, ONES.astype(np.float32)), (EXPERT, ONES))[0][1] == "dtype"


def test_parameter_without_expectation_is_named() -> None:
    more = found((ROUTER, ONES), (EXPERT, ONES), ("0/decoder.layers.0.mlp.gate.bias", ONES))
    assert more == [
        ("0/decoder.layers.0.mlp.gate.bias", "unexpected", "no parameter of this name is expected")
    ]


def test_expectation_without_parameter_is_named() -> None:
    assert found((ROUTER, ONES)) == [(EXPERT, "missing", "the model has no such parameter")]


def test_missing_sequential_expert_has_its_own_name() -> None:
    assert found((SEQUENTIAL.replace(".7.", ".8."), ONES), (ROUTER, ONES)) == [
        (SEQUENTIAL, "missing", "the model has no such parameter"),
        (SEQUENTIAL.replace(".7.", ".8."), "unexpected", "no parameter of this name is expected"),
    ]


def test_parameter_that_comes_twice_is_named() -> None:
    twice = found((ROUTER, ONES), (EXPERT, ONES), (SEQUENTIAL, ONES))
    assert twice == [(SEQUENTIAL, "unexpected", "came more than once")]

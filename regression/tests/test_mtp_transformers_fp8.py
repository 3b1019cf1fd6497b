"""Transformers and the FP8 releases: kept in FP8, dequantized on load, or dequantized beforehand.

Transformers 5.12 computes in FP8 on a GPU only, and dequantizes on load elsewhere. For that it cuts a weight
into as many equal blocks as there are scales, whatever `weight_block_size` says: right where every size is
a multiple of 128, as in all published models, and wrong in a tiny model, which is made to have a rest.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures import PRESETS, Geometry, Moe, Preset, Scale
from mtp_fixtures.families.family import Fp8
from mtp_fixtures.plugin import MakeCheckpoint

from .transformers_models import (
    CAUSAL,
    NOTHING_LEFT,
    SCALE,
    VISION,
    check_image,
    check_text,
    dequantized,
    differing,
    expected_parameters,
    load,
    one_thread,  # noqa: F401 - a fixture
    read,
    spread,
    whole,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FP8 = [name for name, preset in PRESETS.items() if preset.quantized]
DENSE = [name for name in FP8 if not PRESETS[name].is_moe]
MOE = [name for name in FP8 if PRESETS[name].is_moe]
DERIVED = [name for name in FP8 if PRESETS[name].fp8 == Fp8()]
"""Presets whose `modules_to_not_convert` is not known: it names what is there, and nothing else."""
GATE_LISTED = [name for name in DENSE if name not in DERIVED]
"""Presets of dense models whose published list has `mlp.gate`, the router of a mixture of experts."""
QUANTIZED = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "out_proj"),
    *("gate_proj", "up_proj", "down_proj"),
}
"""Linear layers that the published FP8 releases quantize: attention, MLP and experts, of MTP as well."""


def forms(names: list[str]) -> pytest.MarkDecorator:
    """Give each preset, whole and, where it has a vision tower, as its language model alone."""
    every = [
        (name, auto, text_only)
        for name in names
        for auto, text_only in ((VISION, False), (CAUSAL, False), (CAUSAL, True))
        if PRESETS[name].published.vision or (auto, text_only) == (CAUSAL, False)
    ]
    return pytest.mark.parametrize(("name", "auto", "text_only"), every)


def whole_blocks(preset: Preset) -> Geometry:
    """Return a small geometry whose quantized weights are whole blocks of 128 x 128, as published."""
    tiny = preset.geometry(Scale.TINY)
    sizes = {"moe_intermediate_size": 128, "shared_expert_intermediate_size": 384, "num_experts": 4}
    mlp = tiny.text.mlp
    mlp = replace(mlp, **sizes) if isinstance(mlp, Moe) else replace(mlp, intermediate_size=384)
    text = replace(tiny.text, hidden_size=256, head_dim=64, mrope_section=(3, 3, 2), mlp=mlp)
    return replace(tiny, text=replace(text, linear_key_head_dim=64, linear_value_head_dim=64))


def unquantized(name: str, make_checkpoint: MakeCheckpoint) -> Path:
    """Folder of the BF16 release of the same model, with its experts one by one."""
    experts = ("decoder_experts", "mtp_experts") if PRESETS[name].is_moe else ()
    layouts: dict[str, Any] = dict.fromkeys(experts, "per-expert")
    return make_checkpoint(name.removesuffix("-fp8"), **layouts)


@pytest.mark.parametrize("name", FP8)
def test_weights_are_those_of_the_bf16_release(name: str, make_checkpoint: MakeCheckpoint) -> None:
    """Each over its block's scale, rounded to E4M3 by torch; everything else is as it was.

    Special values, which are smaller than all others, are E4M3's own at the same places.
    """
    import torch

    before, after = read(unquantized(name, make_checkpoint)), read(make_checkpoint(name))
    scales = {key for key in after if key.endswith(SCALE)}
    assert {key for key in after if after[key].dtype == torch.float8_e4m3fn} == {
        key.removesuffix(SCALE) for key in scales
    }
    assert after.keys() - scales == before.keys()
    experts_alone = not PRESETS[name].fp8_weights
    assert scales == {
        key + SCALE
        for key in before
        if key.split(".")[-2] in QUANTIZED and (".mlp.experts." in key or not experts_alone)
    }
    for key, weight in before.items():
        if key + SCALE not in scales:
            assert after[key].dtype == torch.bfloat16, key
            assert torch.equal(after[key].double(), weight.double()), key
            continue
        ordinary = weight.abs() >= 2**-8
        assert ordinary.double().mean() > 0.98, key
        scale = spread(after[key + SCALE], weight)
        quotient = (weight.double() / scale).to(torch.float8_e4m3fn)
        same = after[key].view(torch.uint8) == quotient.view(torch.uint8)
        error = (after[key].double() * scale - weight.double()).abs()
        close = error <= weight.double().abs() / 16  # E4M3 has four significant bits
        small = after[key].double().abs() <= 2**-6
        assert torch.where(ordinary, same & close, small).all(), key


@pytest.mark.parametrize("name", FP8)
def test_config_is_that_of_the_bf16_release(name: str, make_checkpoint: MakeCheckpoint) -> None:
    before, after = (
        json.loads((make_checkpoint(release) / "config.json").read_text())
        for release in (name.removesuffix("-fp8"), name)
    )
    assert after.pop("quantization_config")["weight_block_size"] == [128, 128]
    assert after == before


@forms([name for name in FP8 if name not in GATE_LISTED])
def test_fp8_is_kept(
    name: str, auto: str, text_only: bool, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: `modules_to_not_convert` names all that has no scales, and all bits are as stored."""
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    # Where it would ask for a GPU; nothing is computed here.
    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    folder = make_checkpoint(name, text_only=text_only)
    model = load(folder, auto)
    assert differing(model, expected_parameters(read(folder), model)) == []
    listed = set(model.config.quantization_config.modules_to_not_convert)
    there = {key for key, _ in (*model.named_modules(), *model.named_parameters())}
    if name in DERIVED:
        assert {key.split(".")[0] for key in listed - there if not key.startswith("model.visual.")} == {"mtp"}


@forms(GATE_LISTED)
def test_gate_is_taken_for_a_router(
    name: str, auto: str, text_only: bool, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlp.gate` of the published list is a prefix of `mlp.gate_proj`, which stays without its scales."""
    import transformers
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    monkeypatch.setattr(FineGrainedFP8HfQuantizer, "validate_environment", lambda *_, **__: None)
    folder = make_checkpoint(name, text_only=text_only)
    _, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, dtype="auto")
    prefix = "model.language_model." if auto == VISION else "model."
    gates = {f"{prefix}layers.{layer}.mlp.gate_proj.weight{SCALE}" for layer in range(4)}
    assert info == NOTHING_LEFT | {"unexpected_keys": gates}


@forms(FP8)
def test_dequantized_on_load(name: str, auto: str, text_only: bool, make_checkpoint: MakeCheckpoint) -> None:
    """Without a GPU, where every block is whole: the exact product, rounded to BF16 once."""
    import torch

    geometry = whole_blocks(PRESETS[name])
    folder = make_checkpoint(name, scale="square", dimensions=geometry, text_only=text_only)
    model = load(folder, auto)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    assert differing(model, expected_parameters(dequantized(read(folder)), model)) == []
    check_text(model)


@forms(DENSE)
def test_uneven_blocks_of_dense_models_are_refused(
    name: str, auto: str, text_only: bool, make_checkpoint: MakeCheckpoint
) -> None:
    with pytest.raises(RuntimeError, match="issues during automatic conversion of the weights"):
        load(make_checkpoint(name, text_only=text_only), auto)


@pytest.mark.parametrize("name", MOE)
def test_uneven_blocks_of_moe_models_are_mistaken(name: str, make_checkpoint: MakeCheckpoint) -> None:
    """Transformers cuts 168 rows with two scales into 84 and 84, not into 128 and 40, and says nothing."""
    import torch

    folder = make_checkpoint(name)
    tensors = read(folder)
    right, even = dequantized(tensors), {}
    for key, tensor in right.items():
        scales = tensors.get(key + SCALE)
        if scales is not None:
            height, width = (size // count for size, count in zip(tensor.shape, scales.shape, strict=True))
            each = scales.float().repeat_interleave(height, 0).repeat_interleave(width, 1)
            tensor = (tensors[key].float() * each).to(torch.bfloat16)
        even[key] = tensor
    model = load(folder, whole(name))
    assert differing(model, expected_parameters(even, model)) == []
    quantized = sorted(key for key in right if key + SCALE in tensors and not key.startswith("mtp."))
    assert differing(model, expected_parameters(right, model)) == quantized


@pytest.mark.parametrize("name", FP8)
def test_dequantized_beforehand(name: str, make_checkpoint: MakeCheckpoint) -> None:
    """The tiny checkpoint's weights, dequantized block by block, are a whole model of the BF16 release."""
    import transformers

    weights = dequantized(read(make_checkpoint(name)))
    config = transformers.AutoConfig.from_pretrained(unquantized(name, make_checkpoint))
    model, info = getattr(transformers, config.architectures[0]).from_pretrained(
        None, config=config, state_dict=weights, dtype="auto", output_loading_info=True
    )
    assert info == NOTHING_LEFT
    assert differing(model, expected_parameters(weights, model)) == []
    check_text(model)
    if PRESETS[name].published.vision:
        check_image(model)


@pytest.mark.parametrize("name", MOE)
def test_moe_models_cannot_be_saved_again(name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """So no variant of an FP8 release stands for what transformers 5.12 writes; see the next test, too."""
    model = load(make_checkpoint(name), whole(name))
    with pytest.raises(ValueError, match="Undefined Operation encountered"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("name", DENSE)
def test_dense_models_are_quantized_anew(name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """With F32 scales, `lm_head` and embedding included, and no word of it in `config.json`."""
    import torch

    folder = make_checkpoint(name, scale="square", dimensions=whole_blocks(PRESETS[name]))
    load(folder, whole(name)).save_pretrained(tmp_path)
    scales, saved = (
        {key: tensor for key, tensor in read(place).items() if key.endswith(SCALE)}
        for place in (folder, tmp_path)
    )
    more = {f"lm_head.weight{SCALE}", f"model.language_model.embed_tokens.weight{SCALE}"}
    assert saved.keys() == {key for key in scales if not key.startswith("mtp.")} | more
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert "quantization_config" not in (tmp_path / "config.json").read_text()

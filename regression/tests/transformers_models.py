"""Models that transformers loads, and the parameters that a checkpoint should give them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures import PRESETS

Tensors = dict[str, Any]

VISION, CAUSAL = "AutoModelForImageTextToText", "AutoModelForCausalLM"

SCALE = "_scale_inv"
NOTHING_LEFT: dict[str, Any] = {
    "missing_keys": set(),
    "unexpected_keys": set(),
    "mismatched_keys": set(),
    "error_msgs": [],
}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: in tiny models, threads mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def whole(name: str) -> str:
    """Name the class that loads all of a preset: that of a vision-language model, where it has a tower."""
    return VISION if PRESETS[name].published.vision else CAUSAL


def load(folder: Path, auto: str) -> Any:
    """Load a checkpoint with a class of transformers; nothing may be missing, left over or of another shape.

    Keys below `mtp.` are known to transformers as ignored, so that none counts as left over.
    """
    import transformers

    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, dtype="auto")
    assert info == NOTHING_LEFT, info
    return model


def read(folder: Path) -> Tensors:
    """Read every tensor of a checkpoint with the reference implementation."""
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def one_by_one(tensors: Mapping[str, Any]) -> Tensors:
    """Name the parts of packed experts, and of their scales, as the per-expert layout does."""
    unpacked = {}
    for name, tensor in tensors.items():
        prefix, _, last = name.rpartition(".")
        kind = last.removesuffix(SCALE)
        if kind not in ("gate_up_proj", "down_proj"):
            unpacked[name] = tensor
            continue
        projections = ["gate_proj", "up_proj"] if kind == "gate_up_proj" else ["down_proj"]
        suffix = "weight" + last.removeprefix(kind)
        for expert, matrix in enumerate(tensor):
            for projection, part in zip(projections, matrix.chunk(len(projections)), strict=True):
                unpacked[f"{prefix}.{expert}.{projection}.{suffix}"] = part
    return unpacked


def spread(scales: Any, weight: Any) -> Any:
    """Give each element of a weight the scale of its block of 128 x 128, float64[rows, columns]."""
    rows, columns = weight.shape
    return scales.double().repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]


def dequantized(tensors: Tensors) -> Tensors:
    """Multiply exactly, then round to BF16 once."""
    import torch

    return {
        name: (tensor.double() * spread(tensors[name + SCALE], tensor)).to(torch.bfloat16)
        if name + SCALE in tensors
        else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def expected_parameters(tensors: Tensors, model: Any) -> Tensors:
    """Name a checkpoint's tensors as a model does: all but the MTP block, or only the language model's."""
    import torch

    expected = one_by_one({name: tensor for name, tensor in tensors.items() if not name.startswith("mtp.")})
    if not hasattr(model.config, "vision_config"):
        expected = {
            name.replace("model.language_model.", "model."): tensor
            for name, tensor in expected.items()
            if not name.startswith("model.visual.")
        }
    if model.config.get_text_config().tie_word_embeddings:  # which leaves the second name out
        expected["lm_head.weight"] = next(
            tensor for name, tensor in expected.items() if name.endswith(".embed_tokens.weight")
        )
    # Qwen3.5's F32 pair: transformers keeps it in BF16.
    return {
        name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in expected.items()
    }


def differing(model: Any, expected: Tensors) -> list[str]:
    """Names of what a model has not, has besides, or has with other values (F8_E4M3: with other bits)."""
    import torch

    found = one_by_one(model.state_dict())

    def same(left: Any, right: Any) -> bool:
        if torch.float8_e4m3fn in (left.dtype, right.dtype):
            return left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))
        return torch.equal(left.double(), right.double())

    return sorted(
        name
        for name in {*expected, *found}
        if name not in expected or name not in found or not same(found[name], expected[name])
    )


def check_text(model: Any) -> None:
    """Run a forward pass; the last token's logits must depend on the first token."""
    import torch

    ids = torch.arange(10).repeat(2, 1)
    ids[1, 0] = 300
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert logits.shape == (2, 10, model.config.get_text_config().vocab_size)
    assert logits.isfinite().all(), "not finite"
    assert logits.std() > 0.01, "hardly any difference between logits"
    assert not torch.equal(logits[0, -1], logits[1, -1]), "the first token does not reach the last"


def check_image(model: Any) -> None:
    """Run a forward pass; the last token's logits must depend on the image."""
    import torch

    config = model.config
    vision = config.vision_config
    grid = torch.tensor([[1, 4, 4]])  # patches: time, height, width
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.linspace(-1, 1, 16 * patch, dtype=torch.bfloat16).reshape(16, patch)
    image = [config.image_token_id] * 4  # 4 x 4 patches, merged 2 x 2
    ids = torch.tensor([[1, config.vision_start_token_id, *image, config.vision_end_token_id, 2]])
    kinds = (ids == config.image_token_id).int()
    inputs = {"input_ids": ids, "image_grid_thw": grid, "mm_token_type_ids": kinds}
    with torch.no_grad():
        shown = model(**inputs, pixel_values=pixels).logits
        other = model(**inputs, pixel_values=-pixels).logits
    assert shown.isfinite().all(), "not finite"
    assert not torch.equal(shown[0, -1], other[0, -1]), "the image does not reach the last token"

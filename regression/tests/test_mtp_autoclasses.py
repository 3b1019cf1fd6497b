"""Transformers' auto classes take a generated checkpoint as they take a published one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtp_fixtures import PRESETS, Scale
from mtp_fixtures.plugin import MakeCheckpoint

from .transformers_models import load, one_thread  # noqa: F401 - one is a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = 640
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is\nthis?"}]},
    {"role": "assistant", "content": "Café"},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "video"}]},
]
# Transformers 5.12 makes a NumPy array of a tensor in a way that NumPy 2 warns of.
makes_tensors = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


@pytest.fixture(scope="module", params=["qwen3.5-35b-a3b", "qwen3.6-35b-a3b"])
def folder(request: pytest.FixtureRequest, make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(request.param)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load(folder, "AutoModelForImageTextToText")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.published.vision])
def test_config_names_the_tokenizers_ids(name: str, make_checkpoint: MakeCheckpoint) -> None:
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer

    folder = make_checkpoint(name)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert config.model_type == ("qwen3_5_moe" if PRESETS[name].is_moe else "qwen3_5")
    assert config.text_config.vocab_size == TINY
    named = {
        "<|image_pad|>": config.image_token_id,
        "<|video_pad|>": config.video_token_id,
        "<|vision_start|>": config.vision_start_token_id,
        "<|vision_end|>": config.vision_end_token_id,
        "<|endoftext|>": config.text_config.eos_token_id,
    }
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in named} == named
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_token, tokenizer.unk_token) == (None, None)
    assert type(processor).__name__ == "Qwen3VLProcessor"
    assert processor.image_token_id == config.image_token_id
    assert processor.video_token_id == config.video_token_id


@pytest.mark.parametrize("name", PRESETS)
def test_text_only(name: str, make_checkpoint: MakeCheckpoint) -> None:
    """There is no processor: AutoProcessor falls back to the tokenizer."""
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer

    folder = make_checkpoint(name, text_only=True)
    config = AutoConfig.from_pretrained(folder)
    text = PRESETS[name].geometry(Scale.TINY).text
    model_type, end = ("qwen3_5_moe_text" if PRESETS[name].is_moe else "qwen3_5_text"), "<|endoftext|>"
    if name.startswith("qwen3-next"):
        model_type, end = "qwen3_next", "<|im_end|>"
    assert config.model_type == model_type
    assert (config.vocab_size, config.hidden_size) == (TINY, text.hidden_size)
    tokenizer, processor = (auto.from_pretrained(folder) for auto in (AutoTokenizer, AutoProcessor))
    assert config.eos_token_id == tokenizer.convert_tokens_to_ids(end)
    assert type(processor) is type(tokenizer)
    assert processor.get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.temperature])
def test_generation_config(name: str, make_checkpoint: MakeCheckpoint) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    folder = make_checkpoint(name)
    generation = GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert generation.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert generation.bos_token_id == generation.pad_token_id == tokenizer.pad_token_id
    assert generation.temperature == PRESETS[name].temperature


# 320 x 208 pixels are kept: 80 x 52 patches of 4 x 4. 100 x 100 are fewer than the 65536 that the
# configuration asks for, and become 256 x 256: 64 x 64 patches. A token stands for 2 x 2 patches.
@makes_tensors
@pytest.mark.parametrize(
    ("size", "grid", "tokens"), [((320, 208), [1, 52, 80], 1040), ((100, 100), [1, 64, 64], 1024)]
)
def test_image_becomes_as_many_tokens_as_the_model_expects(
    processor: Any, model: Any, size: tuple[int, int], grid: list[int], tokens: int
) -> None:
    import torch
    from PIL import Image

    assert type(processor).__name__ == "Qwen3VLProcessor"
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    text = processor.apply_chat_template(CHAT[:2], add_generation_prompt=True)
    inputs, inverted = (
        processor(text=text, images=Image.fromarray(image), return_tensors="pt")
        for image in (pixels, 255 - pixels)
    )
    assert inputs["image_grid_thw"].tolist() == [grid]
    assert inputs["pixel_values"].shape == (4 * tokens, 3 * 2 * 4 * 4)  # channels, frames, height, width
    shown = processor.tokenizer.decode(inputs["input_ids"][0])
    assert shown == text.replace("<|image_pad|>", "<|image_pad|>" * tokens)
    with torch.no_grad():
        logits = model(**inputs).logits
        other = model(**inverted).logits
    assert logits.shape == (*inputs["input_ids"].shape, TINY)
    assert logits.isfinite().all()
    assert logits.std() > 0.01
    assert not torch.equal(logits[0, -1], other[0, -1]), "the image does not reach the last token"


@makes_tensors
def test_video_becomes_as_many_tokens_as_the_model_expects(processor: Any, model: Any) -> None:
    """4 frames of 64 x 48 pixels: 2 pairs of 16 x 12 patches, 48 tokens each."""
    import torch
    from transformers.video_utils import VideoMetadata

    video = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    inputs = processor(
        text=processor.apply_chat_template(CHAT[3:], add_generation_prompt=True),
        videos=[video],
        video_metadata=[VideoMetadata(total_num_frames=4, fps=2, frames_indices=[0, 1, 2, 3])],
        do_sample_frames=False,
        return_tensors="pt",
    )
    assert inputs["video_grid_thw"].tolist() == [[2, 12, 16]]
    assert inputs["pixel_values_videos"].shape == (2 * 12 * 16, 3 * 2 * 4 * 4)
    assert (inputs["input_ids"] == model.config.video_token_id).sum() == 2 * 48
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_model_answers_a_prompt(processor: Any, model: Any) -> None:
    """Prompt to text, through generate; what it says is noise."""
    prompt = processor.tokenizer.apply_chat_template(
        CHAT[:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**prompt, max_new_tokens=3, min_new_tokens=3)
    assert ids.shape == (1, prompt["input_ids"].shape[1] + 3)
    assert processor.tokenizer.decode(ids[0]).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")

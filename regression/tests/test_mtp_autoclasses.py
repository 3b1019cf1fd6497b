"""Transformers' auto classes take a generated checkpoint as they take a published one."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtp_fixtures.tokenizer import tokenizer_files

TINY, REAL = 640, 248320
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where is\nthis?"}]},
    {"role": "assistant", "content": "Café"},
    {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "video"}]},
]
CHAT_TEXT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Where is\nthis?<|im_end|>\n"
    "<|im_start|>assistant\nCafé<|im_end|>\n"
    "<|im_start|>user\nAnd <|vision_start|><|video_pad|><|vision_end|><|im_end|>\n"
)

# NFC never changes for what Unicode 3.2 had; later marks reorder only where the tables are new enough.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cn"]).filter(
        lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
    )
)
MARK = "\u0316"  # a combining mark that composes with nothing
# What merges, what contracts, and what the two split patterns in use treat differently.
PIECES = [
    "'",
    "s",
    "a",
    "re",
    "ve",
    "Ha",
    "ha",
    "co",
    "b",
    " ",
    "\n",
    "!",
    "1",
    MARK,
    "e\u0301",
    "漢",
    "😀",
    "\0",
]
TRICKY = st.lists(st.sampled_from(PIECES)).map("".join)

# Transformers 5.12 makes a NumPy array of a tensor in a way that NumPy 2 warns of.
makes_tensors = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def complete(folder: Path, vocab_size: int) -> Path:
    """Add the tokenizer's files that the checkpoint lacks."""
    for name, text in tokenizer_files(vocab_size).items():
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["qwen3.5-35b-a3b", "qwen3.6-35b-a3b"])
def folder(
    request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    copy = tmp_path_factory.mktemp("complete")
    for file in checkpoints[request.param].iterdir():
        shutil.copyfile(file, copy / file.name)
    return complete(copy, TINY)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")


@pytest.fixture(scope="module", params=[TINY, REAL])
def vocab_size(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def tokenizer_folder(
    vocab_size: int, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tokenizer, and the configuration that AutoTokenizer asks for; no weights."""
    config = json.loads((checkpoints["qwen3.6-35b-a3b"] / "config.json").read_text())
    config["text_config"]["vocab_size"] = vocab_size
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "config.json").write_text(json.dumps(config))
    return complete(folder, vocab_size)


@pytest.fixture(scope="module")
def tokenizers(tokenizer_folder: Path) -> list[Any]:
    """What transformers may choose, by release: classes with either split pattern, or no class at all."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    return [
        AutoTokenizer.from_pretrained(tokenizer_folder),
        Qwen2Tokenizer.from_pretrained(tokenizer_folder),
        Qwen3_5Tokenizer.from_pretrained(tokenizer_folder),
        PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer_folder / "tokenizer.json"), clean_up_tokenization_spaces=False
        ),
    ]


def test_config_names_the_tokenizers_ids(folder: Path, processor: Any) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(folder)
    generation = GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert config.model_type == "qwen3_5_moe"
    assert config.text_config.vocab_size == TINY
    named = {
        "<|image_pad|>": config.image_token_id,
        "<|video_pad|>": config.video_token_id,
        "<|vision_start|>": config.vision_start_token_id,
        "<|vision_end|>": config.vision_end_token_id,
        "<|endoftext|>": config.text_config.eos_token_id,
    }
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in named} == named
    assert generation.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert generation.bos_token_id == generation.pad_token_id == tokenizer.pad_token_id
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_token, tokenizer.unk_token) == (None, None)
    assert (processor.image_token_id, processor.video_token_id) == (
        config.image_token_id,
        config.video_token_id,
    )


def test_special_tokens_have_the_published_distance_from_the_end(
    tokenizers: list[Any], vocab_size: int
) -> None:
    published = {
        "<|endoftext|>": 248044,
        "<|im_start|>": 248045,
        "<|im_end|>": 248046,
        "<|vision_start|>": 248053,
        "<|vision_end|>": 248054,
        "<|image_pad|>": 248056,
        "<|video_pad|>": 248057,
        "<|fim_pad|>": 248063,
        "<|repo_name|>": 248064,
        "<|file_sep|>": 248065,
        "<think>": 248068,
        "</think>": 248069,
    }
    for tokenizer in tokenizers:
        assert tokenizer.vocab_size == vocab_size - 276
        assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size - 250))
        ids = tokenizer("ha".join(published), add_special_tokens=False).input_ids
        assert ids[::2] == [number - REAL + vocab_size for number in published.values()]
        assert set(ids[1::2]) == {256 + 4 * 5}  # h is the fifth of the consonants


@pytest.mark.parametrize(
    ("text", "tokens", "ids"),
    [
        ("we have coffee", ["we", "Ġha", "ve", "Ġco", "f", "fe", "e"], [312, 332, 307, 323, 69, 267, 68]),
        ("é\n\0", ["Ã", "©", "Ċ", "Ā"], [127, 102, 198, 188]),
        ("e\u0301", ["Ã", "©"], [127, 102]),
        ("<think>a</think>", ["<think>", "a", "</think>"], None),
    ],
)
def test_tokens_of_a_text(tokenizers: list[Any], text: str, tokens: list[str], ids: list[int] | None) -> None:
    for tokenizer in tokenizers:
        assert tokenizer.tokenize(text) == tokens
        assert ids is None or tokenizer(text).input_ids == ids


@settings(deadline=None)
@example(text=MARK + "'sa")
@example(text="ha !")
@example(text="".join(map(chr, range(256))))
@given(text=TEXT | TRICKY)
def test_every_text_comes_back(tokenizers: list[Any], text: str) -> None:
    ids = tokenizers[0](text).input_ids
    assert all(number < TINY - 276 for number in ids)
    for tokenizer in tokenizers:
        assert tokenizer(text).input_ids == ids
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_vocabulary_files_say_the_same(tokenizer_folder: Path) -> None:
    """What a reader that knows no tokenizer.json reads."""
    from tokenizers.models import BPE

    vocab, merges = BPE.read_file(str(tokenizer_folder / "vocab.json"), str(tokenizer_folder / "merges.txt"))
    model = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert vocab == model["vocab"]
    assert [list(pair) for pair in merges] == model["merges"]
    assert len(merges) == 108


def test_every_id_can_be_decoded(tokenizers: list[Any]) -> None:
    """A model may choose any row of its embedding."""
    tokenizer = tokenizers[0]
    assert isinstance(tokenizer.decode(list(range(TINY))), str)
    assert (
        tokenizer.decode(tokenizer("ha<|im_end|><think>co").input_ids, skip_special_tokens=True)
        == "ha<think>co"
    )
    assert "�" in tokenizer.decode([127])


def test_saved_tokenizer_is_the_same(
    tokenizers: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    tokenizers[0].save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizers[0].get_vocab()
    assert again.apply_chat_template(CHAT, tokenize=False) == CHAT_TEXT
    assert "holes" not in "".join(capfd.readouterr())


def test_chat_template(tokenizers: list[Any]) -> None:
    tokenizer = tokenizers[0]
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == CHAT_TEXT
    prompt = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert prompt == CHAT_TEXT + "<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(CHAT).input_ids == tokenizer(CHAT_TEXT).input_ids
    assert tokenizer.apply_chat_template([{"role": "user", "content": " <b>\n"}], tokenize=False) == (
        "<|im_start|>user\n <b>\n<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"role": "tool", "content": "1"}, "not tool"),
        ({"role": "user", "content": [{"type": "audio"}]}, "not audio"),
    ],
)
def test_chat_template_refuses_what_it_does_not_know(
    tokenizers: list[Any], message: dict[str, Any], problem: str
) -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match=problem):
        tokenizers[0].apply_chat_template([message], tokenize=False)


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

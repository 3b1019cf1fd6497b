"""Transformers' tokenizers, each of the classes that it may choose, with the generated tokenizer files."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtp_fixtures import CheckpointSpec, Scale, preset

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


@pytest.fixture(scope="module", params=[TINY, REAL])
def vocab_size(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def tokenizer_folder(vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's files beside its weights, which a tokenizer does without."""
    scale = Scale.REAL if vocab_size == REAL else Scale.TINY
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, text in CheckpointSpec(preset("qwen3.6-35b-a3b"), scale=scale).plan().texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


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

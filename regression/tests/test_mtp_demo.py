"""The page on training: the language that it measures on, and a figure that says what the page says."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from mtp_regression.comparison.tensors import read_folder
from mtp_regression.maintenance.demo.fit import fit, losses
from mtp_regression.maintenance.demo.language import SYMBOLS, Language

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def test_entropy_is_the_loss_of_one_who_knows_the_language() -> None:
    """From the first tokens on: what was drawn before them is forgotten."""
    language = Language()
    tokens = language.draw(100_000, 3, seed=5)
    assert torch.equal(tokens, language.draw(100_000, 3, seed=5))
    assert not torch.equal(tokens, language.draw(100_000, 3, seed=6))
    chances = language.probabilities[tokens[:, 0], tokens[:, 1], tokens[:, 2]]
    assert -chances.log().mean().item() == pytest.approx(language.entropy, rel=0.01)
    assert language.entropy < math.log(SYMBOLS) / 2


def test_each_head_is_asked_for_the_token_that_it_predicts() -> None:
    tokens = torch.randint(8, (2, 6), generator=torch.Generator().manual_seed(0))
    ahead = {"mtp.0": 2, "main": 1, "mtp.1": 3}
    logits = {
        name: 50.0 * torch.nn.functional.one_hot(tokens.roll(-by, dims=1), 8) for name, by in ahead.items()
    }
    assert losses(logits, tokens) == pytest.approx(dict.fromkeys(ahead, 0.0))
    logits["mtp.0"] = logits["main"]
    assert losses(logits, tokens)["mtp.0"] > 1


def test_fitted_checkpoint_has_other_values_in_the_same_tensors(
    tmp_path: Path, qwen36_checkpoint: Path
) -> None:
    before, after = read_folder(qwen36_checkpoint), read_folder(fit(tmp_path / "fitted", Language(), steps=1))
    assert {key: (of.dtype, of.shape) for key, of in after.items()} == {
        key: (of.dtype, of.shape) for key, of in before.items()
    }
    same = {key for key in after if bytes(after[key].data) == bytes(before[key].data)}
    assert {key for key in after if "visual." in key or "linear_attn.norm." in key} <= same
    assert not any(key.startswith("mtp.") or "mlp.experts" in key or "embed_tokens" in key for key in same)


def test_figure_says_in_words_what_the_page_says() -> None:
    figure = ElementTree.parse(DOCS / "training.svg").getroot()
    assert (figure.get("role"), figure[0].tag, figure[1].tag) == ("img", f"{SVG}title", f"{SVG}desc")
    figures = re.findall(r"\d+\.\d+%?", figure[1].text or "")
    assert len(figures) == 9
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    assert "](training.svg)" in page
    assert [number for number in figures if f" {number} " not in page] == []


def test_text_of_the_figure_is_text() -> None:
    figure = ElementTree.parse(DOCS / "training.svg").getroot()
    words = {"".join(element.itertext()).strip() for element in figure.iter(f"{SVG}text")}
    assert {"transformers", "0.4.2", "MTP, patched", "main, unpatched"} <= words

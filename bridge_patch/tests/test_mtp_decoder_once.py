"""A vision-language model is built with one decoder; the releases' tests measure its memory."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

import mtp_bridge_patch

TEXT_MODEL = "megatron.bridge.models.qwen_vl.modelling_qwen3_vl.text_model"
SIZES = ("config", "spec", 640, 4096)


@pytest.fixture
def gpt_model(release: str) -> ModuleType:
    """Megatron-Core's module, which keeps count of the decoders that are built."""
    del release
    return importlib.import_module("megatron.core.models.gpt.gpt_model")


@pytest.fixture
def text_model(gpt_model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Upstream's module, patched, with a stand-in for torch."""
    del gpt_model
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(nn=SimpleNamespace(Module=SimpleNamespace)))
    mtp_bridge_patch.apply(only=["decoder-once"])
    return importlib.import_module(TEXT_MODEL)


def test_the_decoder_that_stays_is_the_only_one(text_model: ModuleType, gpt_model: ModuleType) -> None:
    model = text_model.Qwen3VLGPTModel(*SIZES)
    own = text_model.Qwen3VLTransformerBlock
    assert (type(model.decoder), gpt_model.BUILT) == (own, [own])
    assert model.first == SimpleNamespace(), "a module without layers"
    mtp_bridge_patch.revert()
    text_model.Qwen3VLGPTModel(*SIZES)
    assert gpt_model.BUILT[1:] == [gpt_model.TransformerBlock, own]


def test_models_of_text_have_their_decoder(text_model: ModuleType, gpt_model: ModuleType) -> None:
    text_model.Qwen3VLGPTModel(*SIZES)
    assert type(gpt_model.GPTModel("config", "spec").decoder) is gpt_model.TransformerBlock


def test_a_build_that_fails_leaves_nothing(
    text_model: ModuleType, gpt_model: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(text_model, "Qwen3VLTransformerBlock")
    with pytest.raises(NameError):
        text_model.Qwen3VLGPTModel(*SIZES)
    assert isinstance(gpt_model.TransformerBlock, type)

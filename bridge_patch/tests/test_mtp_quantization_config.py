"""A saved folder's config says that it is quantized if its weights are."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FP8 = {"quant_method": "fp8"}


class Config(SimpleNamespace):
    """A config that keeps what it saved last."""

    def save_pretrained(self, folder: Path) -> None:
        del folder
        self.saved = getattr(self, "quantization_config", None)


@pytest.fixture(autouse=True)
def patched(patched_module: Callable[[str], ModuleType]) -> None:
    patched_module("fp8-per-expert")


def config(*architectures: str) -> Config:
    return Config(architectures=list(architectures) or None, quantization_config=FP8)


def checkpoint(with_config: Config) -> Any:
    """Return what upstream keeps as ``hf_pretrained``, of a checkpoint at hand."""
    module: Any = importlib.import_module("megatron.bridge.models.hf_pretrained.base")
    pretrained = module.PreTrainedBase(with_config)
    pretrained.state = SimpleNamespace()
    return pretrained


def save(pretrained: Any, **options: Any) -> None:
    module: Any = importlib.import_module("megatron.bridge.models.conversion.auto_bridge")
    module.AutoBridge(pretrained).save_hf_pretrained([], "saved", **options)


@pytest.mark.parametrize(
    ("architectures", "kept"),
    [(["Qwen3_5MoeForConditionalGeneration"], True), (["LlamaForCausalLM"], False), ([], False)],
)
def test_config_of_quantized_weights_says_so(architectures: list[str], kept: bool) -> None:
    saved = config(*architectures)
    save(checkpoint(saved))
    assert saved.saved == (FP8 if kept else None)


def test_config_of_weights_asked_for_in_a_dtype_does_not_and_the_live_one_does(release: str) -> None:
    saved = config("Qwen3_5MoeForConditionalGeneration")
    if not release.startswith("0.6."):
        with pytest.raises(TypeError, match="weight_dtype"):
            save(checkpoint(saved), weight_dtype="bfloat16")
        return
    save(checkpoint(saved), weight_dtype="bfloat16")
    assert saved.saved is None
    assert saved.quantization_config == FP8


def test_config_alone_is_saved_without(release: str) -> None:
    alone = config("Qwen3_5MoeForConditionalGeneration")
    if release.startswith("0.4."):  # config-only-export saves there
        with pytest.raises(ValueError, match="The state source is required"):
            save(alone)
    else:
        save(alone)
        assert alone.saved is None
    assert alone.quantization_config == FP8

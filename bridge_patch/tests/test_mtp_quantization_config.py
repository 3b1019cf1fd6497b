"""A saved folder's config says that it is quantized if its weights are."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

FP8 = {"quant_method": "fp8"}


class Config(SimpleNamespace):
    """A config that keeps what it saved last."""

    def save_pretrained(self, folder: Path) -> None:
        del folder
        self.saved = getattr(self, "quantization_config", None)


@pytest.fixture(params=["0.4.2", "0.5.1", "0.6.2"])
def release(request: pytest.FixtureRequest, install_release: Callable[[str], Path]) -> str:
    install_release(request.param)
    mtp_bridge_patch.apply(only=["fp8-per-expert"])
    return str(request.param)


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


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(
    ("architectures", "kept"),
    [(["Qwen3_5MoeForConditionalGeneration"], True), (["LlamaForCausalLM"], False), ([], False)],
)
def test_config_of_quantized_weights_says_so(architectures: list[str], kept: bool) -> None:
    saved = config(*architectures)
    save(checkpoint(saved))
    assert saved.saved == (FP8 if kept else None)


@pytest.mark.usefixtures("release")
def test_config_of_weights_asked_for_in_a_dtype_does_not_and_the_live_one_does() -> None:
    saved = config("Qwen3_5MoeForConditionalGeneration")
    save(checkpoint(saved), weight_dtype="bfloat16")
    assert saved.saved is None
    assert saved.quantization_config == FP8


def test_config_alone_is_saved_without(release: str) -> None:
    alone = config("Qwen3_5MoeForConditionalGeneration")
    if release == "0.4.2":  # config-only-export saves there
        with pytest.raises(ValueError, match="The state source is required"):
            save(alone)
    else:
        save(alone)
        assert alone.saved is None
    assert alone.quantization_config == FP8

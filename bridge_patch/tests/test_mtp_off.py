"""A model without MTP is saved with a config that declares none, and with the MTP tensors' neighbours."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

FILES = {
    "lm_head.weight": "2",
    "mtp.norm.weight": "2",
    "mtp.layers.0.mlp.gate.weight": "3",
    "model.mtp.x": "1",
}


class Config(SimpleNamespace):
    """A config that keeps what it saved last."""

    def save_pretrained(self, folder: Path) -> None:
        del folder
        self.saved = getattr(self, "text_config", self).mtp_num_hidden_layers


class Source(SimpleNamespace):
    """Stands in for upstream's `SafeTensorsStateSource`, and keeps which tensors it waited for."""

    _key_to_filename_map_cache = FILES

    @property
    def key_to_filename_map(self) -> dict[str, str]:
        return self._key_to_filename_map_cache

    def get_all_keys(self) -> list[str]:
        return list(FILES)

    def save_generator(self, folder: Path) -> None:
        del folder
        self.waited_for = self.key_to_filename_map


@pytest.fixture(autouse=True)
def patched(release: str) -> None:
    del release
    mtp_bridge_patch.apply(only=["mtp-off"])


@pytest.fixture
def save(chunk: Callable[..., SimpleNamespace]) -> Callable[..., Any]:
    """Return a function that saves a model with a number of MTP layers."""

    def save(config: Config, source: Source, layers: int | None, method: str = "save_hf_pretrained") -> None:
        base: Any = importlib.import_module("megatron.bridge.models.hf_pretrained.base")
        auto: Any = importlib.import_module("megatron.bridge.models.conversion.auto_bridge")
        pretrained = base.PreTrainedBase(config)
        pretrained.state = SimpleNamespace(source=source)
        getattr(auto.AutoBridge(pretrained), method)([chunk(mtp_num_layers=layers)], "saved")

    return save


def config_of(layers: int, *, text_only: bool, architecture: str = "Qwen3_5ForCausalLM") -> Config:
    text = Config(mtp_num_hidden_layers=layers, architectures=[architecture])
    return text if text_only else Config(text_config=text, architectures=[architecture])


@pytest.mark.parametrize("layers", [None, 0])
@pytest.mark.parametrize("text_only", [True, False])
def test_mtp_that_is_off_is_not_declared(
    save: Callable[..., None], text_only: bool, layers: int | None
) -> None:
    config, source = config_of(1, text_only=text_only), Source()
    save(config, source, layers)
    assert config.saved == 0
    assert source.waited_for == {"lm_head.weight": "2"}
    assert getattr(config, "text_config", config).mtp_num_hidden_layers == 1, "the live one is as it was"
    assert source.key_to_filename_map is FILES


def test_weights_alone_are_saved_without_mtp(save: Callable[..., None]) -> None:
    source = Source()
    save(config_of(1, text_only=True), source, None, "save_hf_weights")
    assert source.waited_for == {"lm_head.weight": "2"}


@pytest.mark.parametrize(("declared", "layers"), [(1, 1), (2, 2), (0, None)])
def test_other_models_are_saved_as_they_are(
    save: Callable[..., None], declared: int, layers: int | None
) -> None:
    config, source = config_of(declared, text_only=False), Source()
    save(config, source, layers)
    assert config.saved == declared
    assert (source.waited_for == FILES) == bool(layers)


def test_other_families_are_upstreams(save: Callable[..., None]) -> None:
    config, source = config_of(1, text_only=True, architecture="LlamaForCausalLM"), Source()
    save(config, source, None)
    assert config.saved == 1
    assert source.waited_for is FILES

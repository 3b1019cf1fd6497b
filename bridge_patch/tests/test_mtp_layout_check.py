"""A checkpoint that contradicts itself is refused before anything is loaded, on every known release."""

import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

import mtp_bridge_patch

EXPERTS = "mtp.layers.0.mlp.experts."
PACKED = (EXPERTS + "gate_up_proj", EXPERTS + "down_proj")
SINGLE = tuple(f"{EXPERTS}0.{projection}_proj.weight" for projection in ("gate", "up", "down"))
LOADERS = ("load_weights_hf_to_megatron", "stream_weights_hf_to_megatron")

Checkpoint = Callable[..., SimpleNamespace]


@pytest.fixture
def module(patched_module: Callable[[str], ModuleType]) -> ModuleType:
    return patched_module("mtp-layout-check")


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("bridge", ["Qwen35VLMoEBridge", "Qwen35VLBridge"])
def test_contradiction_is_refused(
    module: ModuleType, checkpoint: Checkpoint, bridge: str, loader: str
) -> None:
    load = getattr(getattr(module, bridge)(), loader)
    for keys in ((*PACKED, *SINGLE), PACKED[:1], SINGLE[1:]):
        with pytest.raises(mtp_bridge_patch.LayoutError, match="MTP layer 0"):
            load(checkpoint(*keys), [])


@pytest.mark.parametrize("keys", [PACKED, SINGLE, ("mtp.norm.weight",)])
def test_sound_checkpoint_is_loaded(
    module: ModuleType, checkpoint: Checkpoint, keys: tuple[str, ...]
) -> None:
    bridge = module.Qwen35VLMoEBridge()
    assert bridge.load_weights_hf_to_megatron(checkpoint(*keys), [], allowed_mismatched_params=None)
    assert list(bridge.stream_weights_hf_to_megatron(checkpoint(*keys), []))


def test_declared_and_absent_is_refused(module: ModuleType, checkpoint: Checkpoint) -> None:
    pretrained = checkpoint("model.norm.weight")
    pretrained.config = SimpleNamespace(
        text_config=SimpleNamespace(num_experts=8, mtp_num_hidden_layers=1, model_type="qwen3_5_moe_text")
    )
    with pytest.raises(mtp_bridge_patch.LayoutError, match="declares 1 MTP layer, and there is no MTP"):
        module.Qwen35VLMoEBridge().load_weights_hf_to_megatron(pretrained, [])


def test_config_alone_is_not_checked(module: ModuleType) -> None:
    assert module.Qwen35VLBridge().load_weights_hf_to_megatron(SimpleNamespace(model_type="qwen3_5"), [])


def test_signatures_are_upstreams_and_come_back(module: ModuleType) -> None:
    base = module.MegatronModelBridge
    for name in LOADERS:
        patched = getattr(module.Qwen35VLMoEBridge, name)
        assert patched.__wrapped__ is getattr(base, name)
        assert inspect.signature(patched) == inspect.signature(getattr(base, name))
    mtp_bridge_patch.revert()
    for name in LOADERS:
        assert getattr(module.Qwen35VLMoEBridge, name) is getattr(base, name)

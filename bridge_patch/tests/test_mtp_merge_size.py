"""The provider has the checkpoint's `spatial_merge_size`, by which images get their positions."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fixes.model import merge_size


@pytest.fixture(params=["Qwen35VLBridge", "Qwen35VLMoEBridge"])
def bridge(patched_module: Callable[[str], ModuleType], request: pytest.FixtureRequest) -> Any:
    return getattr(patched_module("merge-size"), request.param)()


def test_provider_has_the_checkpoints_merge_size(bridge: Any) -> None:
    # The stand-in's bridge returns the config as its provider.
    config = SimpleNamespace(spatial_merge_size=2, vision_config=SimpleNamespace(spatial_merge_size=3))
    pretrained = SimpleNamespace(config=config)
    assert bridge.provider_bridge(pretrained).spatial_merge_size == 3
    mtp_bridge_patch.revert()
    config.spatial_merge_size = 2
    assert bridge.provider_bridge(pretrained).spatial_merge_size == 2


@pytest.mark.parametrize("config", [SimpleNamespace(), SimpleNamespace(vision_config=None)])
def test_model_that_sees_nothing_is_left_alone(config: SimpleNamespace) -> None:
    provider = SimpleNamespace(spatial_merge_size=2)
    assert merge_size.FIX.provider is not None
    assert vars(merge_size.FIX.provider(provider, config)) == {"spatial_merge_size": 2}


def test_provider_without_the_field_gets_none() -> None:
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=3))
    assert merge_size.FIX.provider is not None
    assert vars(merge_size.FIX.provider(SimpleNamespace(), config)) == {}

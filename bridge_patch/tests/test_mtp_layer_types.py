"""A decoder has the layer types of the checkpoint, where a release goes by an interval."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

PRUNED = ["linear_attention", "full_attention", "linear_attention"]
BRIDGES = ("Qwen35VLBridge", "Qwen35VLMoEBridge")


def provided(module: ModuleType, bridge: str, text_config: Any) -> Any:
    """Return what `linear_attention_freq` becomes of an interval of 4."""
    config = SimpleNamespace(text_config=text_config, linear_attention_freq=4)
    provider = getattr(module, bridge)().provider_bridge(SimpleNamespace(config=config))
    return provider.linear_attention_freq


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize("release", ["0.4.0", "0.5.1"])
def test_layer_types_go_before_the_interval(
    install_release: Callable[[str], Path],
    import_bridge: Callable[[], ModuleType],
    release: str,
    bridge: str,
) -> None:
    install_release(release)
    module = import_bridge()
    pruned = SimpleNamespace(layer_types=PRUNED)
    assert provided(module, bridge, pruned) == 4
    mtp_bridge_patch.apply(only=["layer-types"])
    assert provided(module, bridge, pruned) == [1, 0, 1]
    assert provided(module, bridge, SimpleNamespace()) == 4
    assert provided(module, bridge, SimpleNamespace(layer_types=None)) == 4
    regular = SimpleNamespace(layer_types=[*["linear_attention"] * 3, "full_attention"] * 2)
    assert provided(module, bridge, regular) == 4
    with pytest.raises(KeyError, match="sliding_attention"):
        provided(module, bridge, SimpleNamespace(layer_types=["sliding_attention"]))
    mtp_bridge_patch.revert()
    assert provided(module, bridge, pruned) == 4

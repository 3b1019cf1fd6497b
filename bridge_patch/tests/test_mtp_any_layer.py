"""Every MTP layer has mappings, and what the checkpoint has once is exported once."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtp_bridge_patch.errors import SharedWeightsError

Make = Callable[..., SimpleNamespace]

MTP = "language_model.mtp.layers."


@pytest.fixture
def module(patched_module: Callable[[str], ModuleType]) -> ModuleType:
    return patched_module("mtp-any-layer")


def mapped(bridge: Any, checkpoint: Make) -> dict[str, list[Any]]:
    """Return the keys of each Megatron name, in order."""
    names: dict[str, list[Any]] = {}
    for mapping in bridge.build_conversion_tasks(checkpoint("mtp.fc.weight"), []):
        names.setdefault(mapping.megatron_param, []).append(mapping.hf_param)
    return names


def test_mtp_layers_have_mappings_of_their_own(module: ModuleType, checkpoint: Make) -> None:
    names = mapped(module.Qwen35VLMoEBridge(), checkpoint)
    assert names[MTP + "*.mtp_model_layer.mlp.router.weight"] == ["mtp.layers.*.mlp.gate.weight"]
    assert MTP + "0.mtp_model_layer.mlp.router.weight" not in names
    dense = mapped(module.Qwen35VLBridge(), checkpoint)
    assert dense[MTP + "*.mtp_model_layer.mlp.linear_fc1.weight"] == [
        {"gate": "mtp.layers.*.mlp.gate_proj.weight", "up": "mtp.layers.*.mlp.up_proj.weight"}
    ]


def test_mtp_shared_weight_is_mapped_from_every_layer(module: ModuleType, checkpoint: Make) -> None:
    names = mapped(module.Qwen35VLMoEBridge(), checkpoint)
    assert names[MTP + "0.eh_proj.weight"] == names[MTP + "*.eh_proj.weight"] == ["mtp.fc.weight"]
    order = list(names)  # layer 0 is looked up first: the other pattern fits it too
    assert order.index(MTP + "0.eh_proj.weight") < order.index(MTP + "*.eh_proj.weight")


def test_what_names_no_layer_is_left_alone(module: ModuleType, checkpoint: Make) -> None:
    bridge = module.Qwen35VLMoEBridge()
    plain = [mapping for mapping in bridge.mapping_registry() if ".layers.0." not in mapping.megatron_param]
    names = mapped(bridge, checkpoint)
    assert {mapping.megatron_param: [mapping.hf_param] for mapping in plain}.items() <= names.items()
    assert len(names) == len(plain) + 3


@pytest.fixture
def exports(module: ModuleType, checkpoint: Make, chunk: Make) -> Callable[..., list[Any]]:
    """Return a function that exports a weight of each MTP layer under the checkpoint's one key."""

    def export(*weights: Any) -> list[Any]:
        model = [
            chunk(f"{MTP}{layer}.eh_proj.weight", weight=np.array(weight, np.float32))
            for layer, weight in enumerate(weights)
        ]
        bridge = module.Qwen35VLMoEBridge()
        return list(bridge.stream_weights_megatron_to_hf(model, checkpoint("mtp.fc.weight")))

    return export


def test_mtp_equal_copies_are_exported_once(exports: Callable[..., list[Any]]) -> None:
    [(key, weight)] = exports([1, 2], [1, 2], [1, 2])
    assert (key, weight.tolist()) == ("mtp.fc.weight", [1, 2])


@pytest.mark.parametrize("weights", [([1, 2], [1, 3]), ([1, 2], [1, 2], [0, 2])])
def test_mtp_copies_that_differ_are_an_error(
    exports: Callable[..., list[Any]], weights: tuple[list[int], ...]
) -> None:
    last = len(weights) - 1
    message = rf"mtp\.layers\.{last}\.eh_proj\.weight is not equal to layer 0's.* mtp\.fc\.weight"
    with pytest.raises(SharedWeightsError, match=message):
        exports(*weights)

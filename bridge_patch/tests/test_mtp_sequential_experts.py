"""Routed experts have mappings in both layouts, grouped and one by one."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

Make = Callable[..., SimpleNamespace]

DECODER = "language_model.decoder.layers.*.mlp.experts."
MTP = "language_model.mtp.layers.*.mtp_model_layer.mlp.experts."
DECODER_KEY = "model.language_model.layers.*.mlp.experts."
MTP_KEY = "mtp.layers.*.mlp.experts."
DECODER_CHECKPOINT = {
    "packed": tuple(
        f"model.language_model.layers.0.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")
    ),
    "per-expert": tuple(
        f"model.language_model.layers.0.mlp.experts.0.{name}_proj.weight" for name in ("gate", "up", "down")
    ),
}
MTP_CHECKPOINT = {
    layout: tuple(key.replace("model.language_model", "mtp") for key in keys)
    for layout, keys in DECODER_CHECKPOINT.items()
}
LAYOUTS = ("packed", "per-expert")


def expected(megatron: str, key: str, layout: str) -> dict[str, tuple[str, Any]]:
    """Return the class and keys that each name is to have."""
    table: dict[str, tuple[str, Any]] = {}
    for fc1, fc2 in (
        ("linear_fc1.weight*", "linear_fc2.weight*"),
        ("local_experts.*.linear_fc1.weight", "local_experts.*.linear_fc2.weight"),
    ):
        if layout == "packed":
            table[megatron + fc1] = ("FusedGatedExpertMapping", key + "gate_up_proj")
            table[megatron + fc2] = ("FusedExpertMapping", key + "down_proj")
        else:
            halves = {"gate": key + "*.gate_proj.weight", "up": key + "*.up_proj.weight"}
            table[megatron + fc1] = ("GatedMLPMapping", halves)
            table[megatron + fc2] = ("AutoMapping", key + "*.down_proj.weight")
    return table


@pytest.fixture
def bridge(patched_module: Callable[[str], ModuleType]) -> Any:
    return patched_module("mtp-sequential-experts").Qwen35VLMoEBridge()


@pytest.mark.parametrize("decoder", LAYOUTS)
@pytest.mark.parametrize("mtp", LAYOUTS)
def test_mtp_and_decoder_experts_follow_the_checkpoint(
    bridge: Any, checkpoint: Make, decoder: str, mtp: str
) -> None:
    keys = DECODER_CHECKPOINT[decoder] + MTP_CHECKPOINT[mtp]
    mappings = bridge.build_conversion_tasks(checkpoint(*keys), [])
    experts = [mapping for mapping in mappings if ".mlp.experts." in mapping.megatron_param]
    found = {mapping.megatron_param: (type(mapping).__name__, mapping.hf_param) for mapping in experts}
    assert found == {**expected(DECODER, DECODER_KEY, decoder), **expected(MTP, MTP_KEY, mtp)}
    assert len(experts) == len(found)  # no name twice
    assert not any(getattr(mapping, "transpose_on_export", False) for mapping in experts)


def test_other_mappings_stay_behind_the_experts(bridge: Any, checkpoint: Make) -> None:
    others = [
        mapping.megatron_param
        for mapping in bridge.mapping_registry()
        if ".mlp.experts." not in mapping.megatron_param
    ]
    keys = DECODER_CHECKPOINT["packed"] + MTP_CHECKPOINT["packed"]
    names = [mapping.megatron_param for mapping in bridge.build_conversion_tasks(checkpoint(*keys), [])]
    assert names[8:] == others


def test_mtp_block_without_experts_is_left_to_upstream(bridge: Any, checkpoint: Make) -> None:
    upstream = {mapping.megatron_param for mapping in bridge.mapping_registry()}
    mappings = bridge.build_conversion_tasks(checkpoint(*DECODER_CHECKPOINT["packed"]), [])
    of_mtp = {mapping.megatron_param for mapping in mappings if mapping.megatron_param.startswith(MTP)}
    assert of_mtp == {name for name in upstream if name.startswith(MTP)} != set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_expert_is_found_by_its_number(bridge: Any, checkpoint: Make, chunk: Make, layout: str) -> None:
    name = "language_model.mtp.layers.1.mtp_model_layer.mlp.experts.local_experts.5.linear_fc2.weight"
    keys = MTP_CHECKPOINT[layout]
    [mapping] = bridge.build_conversion_tasks(checkpoint(*keys), [chunk(name, num_moe_experts=8)])
    assert mapping.megatron_param == name
    wanted = {"packed": "down_proj", "per-expert": "5.down_proj.weight"}[layout]
    assert mapping.hf_param == f"mtp.layers.1.mlp.experts.{wanted}"


NAME = "decoder.layers.2.mlp.experts.local_experts.{}.linear_fc1.weight"


def test_experts_are_numbered_over_ranks(release: str, chunk: Make) -> None:
    module: Any = importlib.import_module("megatron.bridge.models.conversion.model_bridge")
    upstream = module._megatron_local_name_to_global
    mtp_bridge_patch.apply(only=["mtp-sequential-experts"])
    ep = SimpleNamespace(size=lambda: 4, rank=lambda: 3)
    [model] = [chunk(groups={"ep": ep}, num_moe_experts=16)]
    number = module._megatron_local_name_to_global
    if not release.startswith("0.4."):  # upstream does it
        assert number is upstream
        return
    assert number([model], model.config, NAME.format(2)) == NAME.format(14)
    grouped = "decoder.layers.2.mlp.experts.linear_fc1.weight"
    assert number([model], model.config, grouped + "2", 0) == grouped + "14"
    adapter = "decoder.layers.2.mlp.experts.local_experts.2.adapter.weight"
    assert number([model], model.config, adapter) == adapter
    assert number([chunk(groups={"ep": None})], model.config, NAME.format(2)) == NAME.format(2)


def test_experts_are_sorted_by_number(install_release: Callable[[str], Path]) -> None:
    install_release("0.4.2")
    module: Any = importlib.import_module("megatron.bridge.models.conversion.model_bridge")
    mtp_bridge_patch.apply(only=["mtp-sequential-experts"])
    numbers = [module.extract_sort_key(NAME.format(number))[0] for number in (0, 2, 10)]
    assert numbers == [[2, 0], [2, 2], [2, 10]]
    others = ["decoder.layers.2.mlp.experts.linear_fc1.weight10", "output_layer.weight"]
    assert [module.extract_sort_key(name)[0] for name in others] == [[2, 10], [-1, -1]]

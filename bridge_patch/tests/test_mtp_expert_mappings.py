"""Routed experts have mappings in both layouts, grouped and one by one."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

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
    return patched_module("mtp-expert-mappings").Qwen35VLMoEBridge()


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


def test_mtp_each_conversion_looks_at_its_own_checkpoint(bridge: Any, checkpoint: Make) -> None:
    def mtp_class() -> set[str]:
        experts = [mapping for mapping in bridge.mapping_registry() if mapping.megatron_param.startswith(MTP)]
        return {type(mapping).__name__ for mapping in experts if "linear_fc1" in mapping.megatron_param}

    assert mtp_class() == {"GatedMLPMapping"}  # upstream's
    for layout, expected in (("packed", "FusedGatedExpertMapping"), ("per-expert", "GatedMLPMapping")):
        bridge.build_conversion_tasks(checkpoint(*MTP_CHECKPOINT[layout]), [])
        assert mtp_class() == {expected}


def test_config_without_checkpoint_is_left_to_upstream(bridge: Any) -> None:
    upstream = [mapping.megatron_param for mapping in bridge.mapping_registry()]
    config = SimpleNamespace(architectures=["Qwen3_5MoeForConditionalGeneration"])
    tasks = bridge.build_conversion_tasks(config, [])
    assert [mapping.megatron_param for mapping in tasks] == upstream


def test_mtp_registry_derives_its_mappings_anew(
    bridge: Any, checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = MTP_CHECKPOINT["packed"]
    given = [mapping.megatron_param for mapping in bridge.build_conversion_tasks(checkpoint(*keys), [])]
    monkeypatch.setenv("ENABLE_BRIDGE_QUANT_MAPPING", "1")
    tasks = bridge.build_conversion_tasks(checkpoint(*keys), [])
    names = [mapping.megatron_param for mapping in tasks]
    derived = [name for name in names if name.endswith("_quantizer._amax")]
    assert names == given + derived
    assert len(set(derived)) == len(derived) > 0
    of_weights = {name.replace(".weight", ".weight_quantizer._amax") for name in given}
    assert set(derived) <= of_weights

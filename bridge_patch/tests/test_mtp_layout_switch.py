"""The mappings that a bridge gives out for each layout."""

import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fixes.layout_switch import FIX

pytestmark = pytest.mark.parametrize("release", FIX.releases, indirect=True)

EXPERTS = "language_model.mtp.layers.*.mtp_model_layer.mlp.experts."
PACKED = ("mtp.layers.0.mlp.experts.down_proj", "mtp.layers.0.mlp.experts.gate_up_proj")
PER_EXPERT = ("mtp.layers.0.mlp.experts.0.up_proj.weight", "mtp.layers.0.mlp.experts.1.up_proj.weight")
UPSTREAM = [
    ("AutoMapping", "language_model.output_layer.weight", "lm_head.weight"),
    (
        "FusedGatedExpertMapping",
        "language_model.decoder.layers.*.mlp.experts.linear_fc1.weight*",
        "model.language_model.layers.*.mlp.experts.gate_up_proj",
    ),
    (
        "FusedExpertMapping",
        "language_model.decoder.layers.*.mlp.experts.linear_fc2.weight*",
        "model.language_model.layers.*.mlp.experts.down_proj",
    ),
    (
        "GatedMLPMapping",
        EXPERTS + "linear_fc1.weight*",
        {
            "gate": "mtp.layers.*.mlp.experts.*.gate_proj.weight",
            "up": "mtp.layers.*.mlp.experts.*.up_proj.weight",
        },
    ),
    ("AutoMapping", EXPERTS + "linear_fc2.weight*", "mtp.layers.*.mlp.experts.*.down_proj.weight"),
    (
        "AutoMapping",
        "language_model.mtp.layers.*.mtp_model_layer.mlp.shared_experts.linear_fc2.weight",
        "mtp.layers.*.mlp.shared_expert.down_proj.weight",
    ),
    ("AutoMapping", "language_model.mtp.layers.0.eh_proj.weight", "mtp.fc.weight"),
    (
        "AutoMapping",
        "language_model.mtp.layers.0.mtp_model_layer.mlp.router.weight",
        "mtp.layers.0.mlp.gate.weight",
    ),
]
SWITCHED = [
    *UPSTREAM[:3],
    ("FusedGatedExpertMapping", EXPERTS + "linear_fc1.weight*", "mtp.layers.*.mlp.experts.gate_up_proj"),
    ("FusedExpertMapping", EXPERTS + "linear_fc2.weight*", "mtp.layers.*.mlp.experts.down_proj"),
    *UPSTREAM[5:],
]

Checkpoint = Callable[..., SimpleNamespace]


def table(mappings: Any) -> list[tuple[str, str, Any]]:
    return [(type(mapping).__name__, mapping.megatron_param, mapping.hf_param) for mapping in mappings]


@pytest.fixture
def bridge_module(patched_module: Callable[[str], ModuleType]) -> ModuleType:
    return patched_module(FIX.id)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param(PACKED, SWITCHED, id="packed"),
        pytest.param(PER_EXPERT, UPSTREAM, id="per-expert"),
        pytest.param(("mtp.fc.weight",), UPSTREAM, id="absent"),
        pytest.param(("mtp.layers.2.mlp.experts.gate_up_proj",), SWITCHED, id="packed-layer-2"),
    ],
)
def test_mtp_mappings_follow_the_checkpoint(
    bridge_module: ModuleType, checkpoint: Checkpoint, keys: tuple[str, ...], expected: list[Any]
) -> None:
    tasks = bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(checkpoint(*keys), [])
    assert table(tasks) == expected


def test_mtp_mappings_do_not_transpose(bridge_module: ModuleType, checkpoint: Checkpoint) -> None:
    tasks = bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(checkpoint(*PACKED), [])
    transposing = [task.megatron_param for task in tasks if getattr(task, "transpose_on_export", False)]
    assert transposing == ["language_model.decoder.layers.*.mlp.experts.linear_fc2.weight*"]


def test_each_bridge_looks_at_its_own_checkpoint(bridge_module: ModuleType, checkpoint: Checkpoint) -> None:
    bridge = bridge_module.Qwen35VLMoEBridge()
    assert table(bridge.build_conversion_tasks(checkpoint(*PACKED), [])) == SWITCHED
    assert table(bridge.build_conversion_tasks(checkpoint(*PER_EXPERT), [])) == UPSTREAM
    assert table(bridge_module.Qwen35VLMoEBridge().mapping_registry()) == UPSTREAM


def test_config_without_checkpoint_is_left_to_upstream(bridge_module: ModuleType) -> None:
    config = SimpleNamespace(architectures=["Qwen3_5MoeForConditionalGeneration"])
    assert table(bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(config, [])) == UPSTREAM


def test_both_layouts_stop_before_anything_is_loaded(
    bridge_module: ModuleType, checkpoint: Checkpoint
) -> None:
    message = r"(?s)checkpoint /models/tiny is inconsistent.*packed.*per-expert"
    with pytest.raises(mtp_bridge_patch.LayoutError, match=message):
        bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(checkpoint(*PACKED, *PER_EXPERT), [])


def test_registry_keeps_its_derived_mappings(
    bridge_module: ModuleType, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENABLE_BRIDGE_QUANT_MAPPING", "1")
    derived = [
        ("AutoMapping", name.replace(".weight", ".weight_quantizer._amax"), hf_param)
        for _, name, hf_param in (SWITCHED[0], *SWITCHED[5:])
    ]
    tasks = bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(checkpoint(*PACKED), [])
    assert table(tasks) == [*SWITCHED, *derived]


def test_changed_upstream_is_an_error(
    bridge_module: ModuleType, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "_MTP", "somewhere.else.layers.*.")
    with pytest.raises(RuntimeError, match=r"has no mapping of .*linear_fc1.weight\*, .*linear_fc2.weight\*"):
        bridge_module.Qwen35VLMoEBridge().build_conversion_tasks(checkpoint(*PACKED), [])


def test_signatures_are_upstreams(bridge_module: ModuleType) -> None:
    patched, base = bridge_module.Qwen35VLMoEBridge, bridge_module.MegatronModelBridge
    for name in ("mapping_registry", "build_conversion_tasks"):
        assert getattr(patched, name) is not getattr(base, name)
        assert inspect.signature(getattr(patched, name)) == inspect.signature(getattr(base, name))
    assert patched().build_conversion_tasks(hf_pretrained=None, megatron_model=[])


def test_other_bridges_are_untouched(bridge_module: ModuleType) -> None:
    dense = bridge_module.Qwen35VLBridge
    assert dense.build_conversion_tasks is bridge_module.MegatronModelBridge.build_conversion_tasks
    assert not hasattr(dense.mapping_registry, "__wrapped__")

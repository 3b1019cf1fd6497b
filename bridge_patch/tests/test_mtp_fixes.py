"""What all fixes have in common: upstream's signatures while on, and nothing left when off."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mtp_bridge_patch
import mtp_checkpoint

COMMON = "megatron.bridge.models.conversion.model_bridge"
MODULES = (
    COMMON,
    "megatron.bridge.models.conversion.auto_bridge",
    "megatron.bridge.models.conversion.mapping_registry",
    "megatron.bridge.models.conversion.param_mapping",
    "megatron.bridge.models.gpt_provider",
    "megatron.bridge.models.hf_pretrained.base",
    "megatron.bridge.models.hf_pretrained.state",
    "megatron.bridge.models.qwen_vl.qwen35_vl_bridge",
    "megatron.bridge.models.qwen_vl.modelling_qwen3_vl.attention",
    "megatron.bridge.models.qwen_vl.modelling_qwen3_vl.rope",
    "megatron.bridge.models.qwen_vl.modelling_qwen3_vl.text_model",
    "megatron.bridge.models.qwen_vl.qwen35_vl_provider",
    "megatron.bridge.training.checkpointing",
    "megatron.bridge.training.config",
    "megatron.bridge.training.model_load_save",
)
TEXT_MODULE = "megatron.bridge.models.qwen.qwen35_bridge"
OF_A_BRIDGE = {
    "_megatron_global_param_names_all_pp_ranks",
    "build_conversion_tasks",
    "load_weights_hf_to_megatron",
    "mapping_registry",
    "maybe_modify_loaded_hf_weight",
    "provider_bridge",
    "stream_weights_hf_to_megatron",
    "stream_weights_megatron_to_hf",
}
OTHERS = {
    "attention.apply_rotary_pos_emb_absolute",
    "checkpointing._load_base_checkpoint",
    "checkpointing.read_run_config",
    "config.ConfigContainer.to_yaml",
    "gpt_provider.GPTModelProvider.provide",
    "gpt_provider.mtp_block_spec",
    "model_load_save.load_megatron_model",
    "model_load_save.load_model_config",
    "qwen35_vl_provider.Qwen35VLMoEModelProvider.provide",
    "qwen35_vl_provider.Qwen35VLModelProvider.provide",
    "rope._apply_rotary_pos_emb_bshd",
    "text_model.Qwen3VLGPTModel.__init__",
}
VISION_LANGUAGE = ("qwen35_vl_bridge.Qwen35VLBridge", "qwen35_vl_bridge.Qwen35VLMoEBridge")
TEXT = ("qwen35_bridge.Qwen35Bridge", "qwen35_bridge.Qwen35MoEBridge")
TIED = {"_broadcast_shared_embeddings"}
HEADS = {f"qwen35_vl_provider.Qwen35VL{kind}ModelProvider.validate_parallelism" for kind in ("", "MoE")}


def methods(bridges: tuple[str, ...], names: set[str]) -> set[str]:
    return {f"{bridge}.{name}" for bridge in bridges for name in names}


# By their dotted names, all that the fixes replace of each release.
REPLACED = {
    "0.4.1": OTHERS | HEADS | methods(VISION_LANGUAGE, OF_A_BRIDGE | TIED),
    "0.4.2": OTHERS | HEADS | methods(VISION_LANGUAGE, OF_A_BRIDGE | TIED),
    "0.5.1": OTHERS | methods(VISION_LANGUAGE + TEXT, OF_A_BRIDGE | TIED),
    "0.6.2": OTHERS | methods(VISION_LANGUAGE + TEXT, OF_A_BRIDGE),
}


@pytest.fixture
def modules(release: str) -> list[ModuleType]:
    """Return all stand-in modules of the release, imported."""
    names = MODULES if release.startswith("0.4.") else (*MODULES, TEXT_MODULE)
    return [importlib.import_module(name) for name in names]


def owners(modules: list[ModuleType]) -> Iterator[tuple[str, Any]]:
    """Yield modules and the classes that they define, with names as in ``REPLACED``."""
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        yield name, module
        for member in list(vars(module).values()):
            if isinstance(member, type) and member.__module__ == module.__name__:
                yield f"{name}.{member.__name__}", member


def own(modules: list[ModuleType]) -> dict[str, Any]:
    """Return every attribute of modules and classes; no inherited one."""
    return {
        f"{name}.{attribute}": value
        for name, owner in owners(modules)
        for attribute, value in vars(owner).items()
    }


def looked_up(modules: list[ModuleType]) -> dict[str, Any]:
    """Return every function that modules and classes have, inherited ones too."""
    return {
        f"{name}.{attribute}": value
        for name, owner in owners(modules)
        for attribute, value in inspect.getmembers(owner, inspect.isfunction)
    }


def wrappers(function: Any) -> Iterator[Any]:
    """Yield a function and what it wraps, without upstream's own."""
    while hasattr(function, "__wrapped__"):
        yield function
        function = function.__wrapped__


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(after[name] is before[name] for name in before)


def test_mtp_replaced_methods_have_upstreams_signatures(release: str, modules: list[ModuleType]) -> None:
    before = looked_up(modules)
    mtp_bridge_patch.apply()
    after = looked_up(modules)
    changed = {name for name in before if after[name] is not before[name]}
    assert changed == REPLACED[release]
    for name in changed:
        upstream = inspect.signature(before[name])
        assert inspect.signature(after[name]) == upstream, name
        for wrapper in wrappers(after[name]):
            assert takes_all(inspect.signature(wrapper, follow_wrapped=False), upstream), (name, wrapper)
        assert after[name].__name__ == before[name].__name__


def takes_all(signature: inspect.Signature, upstream: inspect.Signature) -> bool:
    """Tell whether calls by position and by name reach the parameters that upstream's reach."""
    kinds = inspect.Parameter
    named = [p for p in signature.parameters.values() if p.kind is kinds.POSITIONAL_OR_KEYWORD]
    rest = {p.kind for p in signature.parameters.values()} - {kinds.POSITIONAL_OR_KEYWORD}
    names = list(upstream.parameters)
    complete = len(named) == len(names) or rest == {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}
    return complete and [p.name for p in named] == names[: len(named)]


def test_revert_gives_back_the_same_objects(modules: list[ModuleType]) -> None:
    common = importlib.import_module(COMMON)
    names = ("get_model_bridge", "stream_weights_megatron_to_hf", "stream_adapter_weights_megatron_to_hf")
    registered = [dict(getattr(common, name)._exact_types) for name in names]
    before = own(modules)
    mtp_bridge_patch.apply()
    assert not same(before, own(modules))
    mtp_bridge_patch.revert()
    assert same(before, own(modules))
    assert [getattr(common, name)._exact_types for name in names] == registered


@pytest.mark.parametrize("fix", [fix.id for fix in mtp_bridge_patch.FIXES])
def test_each_fix_alone_changes_something_and_reverts(modules: list[ModuleType], fix: str) -> None:
    before = own(modules)
    status = mtp_bridge_patch.apply(only=[fix]) if fix_applies(fix) else None
    assert (status is None) == same(before, own(modules))
    mtp_bridge_patch.revert()
    assert same(before, own(modules))


def fix_applies(fix: str) -> bool:
    return fix in {found.id for found in mtp_bridge_patch.status_of().applied}


def test_fixes_import_neither_torch_nor_upstreams_dependencies(
    install_release: Callable[[str], Path],
) -> None:
    site = install_release("0.4.2")
    packages = [str(Path(str(package.__file__)).parents[1]) for package in (mtp_bridge_patch, mtp_checkpoint)]
    names = [*MODULES, "megatron.bridge.models.qwen_vl.qwen35_vl_bridge"]
    code = (
        f"import sys, importlib; sys.path[:0] = {[str(site), *packages]!r}; import mtp_bridge_patch;"
        f"mtp_bridge_patch.apply(); [importlib.import_module(name) for name in {names!r}];"
        "ours = {'__main__', 'megatron', 'mtp_bridge_patch', 'mtp_checkpoint'};"
        "tops = {name.split('.')[0] for name in sys.modules} - ours;"
        "print(sorted(tops - sys.stdlib_module_names))"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_module_without_bridges_fails_the_import(
    install_release: Callable[..., Path], import_bridge: Callable[[], ModuleType]
) -> None:
    site = install_release("0.6.2", own=True)
    next(site.rglob("qwen35_vl_bridge.py")).write_text("")
    mtp_bridge_patch.apply()
    with pytest.raises(RuntimeError, match=r"qwen35_vl_bridge defines no bridge of Qwen3\.5"):
        import_bridge()


def test_text_only_bridges_are_registered_and_forgotten(install_release: Callable[[str], Path]) -> None:
    install_release("0.4.2")
    common = importlib.import_module(COMMON)
    module = importlib.import_module("megatron.bridge.models.qwen_vl.qwen35_vl_bridge")
    mtp_bridge_patch.apply(only=["text-only"])
    bridge = common.get_model_bridge("Qwen3_5MoeForCausalLM")
    assert type(bridge) is module.Qwen35MoEBridge
    assert (bridge.SOURCE_NAME, bridge.MODEL_TYPE) == ("Qwen3_5MoeForCausalLM", "qwen3_5_moe_text")
    mappings = {mapping.megatron_param: mapping.hf_param for mapping in bridge.mapping_registry()}
    assert mappings["decoder.layers.*.mlp.experts.linear_fc1.weight*"] == (
        "model.layers.*.mlp.experts.gate_up_proj"
    )
    assert mappings["mtp.layers.0.eh_proj.weight"] == "mtp.fc.weight"
    assert mappings["output_layer.weight"] == "lm_head.weight"
    for name in ("provider_bridge", "mapping_registry"):
        upstream = getattr(common.MegatronModelBridge, name)
        found = inspect.signature(getattr(module.Qwen35MoEBridge, name))
        assert list(found.parameters) == list(inspect.signature(upstream).parameters)
    mtp_bridge_patch.revert()
    assert not hasattr(module, "Qwen35MoEBridge")
    with pytest.raises(NotImplementedError):
        common.get_model_bridge("Qwen3_5MoeForCausalLM")

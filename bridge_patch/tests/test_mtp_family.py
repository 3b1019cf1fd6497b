"""What is no model of the family has upstream's own functions, with every fix on."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.upstream.bridges import is_of_family
from mtp_bridge_patch.upstream.methods import METHODS

FAMILY = ["Qwen3_5MoeForConditionalGeneration"]
OTHERS: tuple[Any, ...] = (
    ["LlamaForCausalLM"],
    ["Qwen3MoeForCausalLM"],
    [],
    None,
    "Qwen3_5ForCausalLM",
    [None],
    pytest.param(mock.Mock(), id="mock"),  # a name without an address
)
SAVES = (
    ("megatron.bridge.models.conversion.auto_bridge", "AutoBridge", "save_hf_pretrained"),
    ("megatron.bridge.models.conversion.auto_bridge", "AutoBridge", "save_hf_weights"),
    ("megatron.bridge.models.hf_pretrained.base", "PreTrainedBase", "save_artifacts"),
)


@pytest.fixture(params=SAVES, ids=[name for _, _, name in SAVES])
def saving(request: pytest.FixtureRequest, release: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield an upstream class, the name of its method that saves, and upstream's function."""
    del release
    module, owner, name = request.param
    upstream_class = getattr(importlib.import_module(module), owner)
    upstream = vars(upstream_class)[name]
    mtp_bridge_patch.apply()
    yield upstream_class, name, upstream
    mtp_bridge_patch.revert()
    assert vars(upstream_class)[name] is upstream


@pytest.mark.parametrize("architectures", OTHERS)
def test_other_families_are_saved_by_upstreams_function(
    saving: tuple[Any, str, Any], architectures: Any
) -> None:
    upstream_class, name, upstream = saving
    config = SimpleNamespace(architectures=architectures)
    for pretrained in (config, SimpleNamespace(config=config), object()):
        if upstream_class.__name__ == "AutoBridge" or pretrained is config:
            saver = upstream_class(pretrained)
            assert getattr(saver, "config", config) is config  # loaded, as it is where a bridge saves
            assert getattr(saver, name).__func__ is upstream
    assert getattr(upstream_class, name) is upstream


def test_config_is_loaded_by_the_call_not_before(release: str) -> None:
    del release
    module, owner, name = SAVES[2]
    mtp_bridge_patch.apply()
    config = mock.Mock(architectures=["LlamaForCausalLM"])
    pretrained = getattr(importlib.import_module(module), owner)(config)
    method = getattr(pretrained, name)
    assert pretrained._config is None
    method("folder")
    config.save_pretrained.assert_called_once_with("folder")
    assert getattr(pretrained, name).__func__ is method.__func__.__wrapped__


def test_mtp_family_is_saved_by_a_function_like_upstreams(saving: tuple[Any, str, Any]) -> None:
    upstream_class, name, upstream = saving
    method = getattr(upstream_class(SimpleNamespace(architectures=FAMILY)), name)
    assert method.__func__ is not upstream
    assert method.__func__.__wrapped__ is upstream
    assert inspect.signature(method.__func__) == inspect.signature(upstream)


def test_method_is_replaced_and_restored_by_others(saving: tuple[Any, str, Any]) -> None:
    """Users' tests patch these methods too, and subclasses call them by `super()`."""
    upstream_class, name, _ = saving
    family = SimpleNamespace(architectures=FAMILY)
    inside = vars(upstream_class)[name]
    with mock.patch.object(upstream_class, name) as replaced:
        assert getattr(upstream_class(family), name) is replaced
    assert vars(upstream_class)[name] is inside
    subclass: Any = type("Sub", (upstream_class,), {})
    assert getattr(super(subclass, subclass(family)), name).__func__.__wrapped__ is inside.__get__(
        None, upstream_class
    )


@pytest.mark.parametrize("name", METHODS)
def test_other_bridges_are_upstreams(
    release: str, import_bridge: Callable[[], ModuleType], name: str
) -> None:
    del release
    module = import_bridge()
    base = module.MegatronModelBridge
    other = type("LlamaBridge", (base,), {})
    upstream = getattr(base, name)
    mtp_bridge_patch.apply()
    assert getattr(base, name) is getattr(other, name) is upstream


@pytest.mark.parametrize(
    ("architectures", "expected"), [(FAMILY, True), (tuple(FAMILY), True), (["Llama", *FAMILY], True)]
)
def test_family_is_told_by_its_architecture(architectures: Any, expected: bool) -> None:
    assert is_of_family(SimpleNamespace(architectures=architectures)) is expected
    assert not is_of_family(SimpleNamespace())

"""MTP layers are made with full attention, whatever layers the decoder and the pipeline stage have."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

CUT: dict[str, Any] = {
    "pipeline_model_parallel_size": 3,
    "virtual_pipeline_model_parallel_size": None,
    "num_layers_in_first_pipeline_stage": None,
    "num_layers_in_last_pipeline_stage": None,
    "account_for_embedding_in_pipeline_split": False,
    "account_for_loss_in_pipeline_split": False,
}


def config_of(*stage: int, **options: Any) -> SimpleNamespace:
    specs = importlib.import_module("megatron.core.models.gpt.experimental_attention_variant_module_specs")
    layer_spec = specs.get_transformer_block_with_experimental_attention_variant_spec
    given = {
        "experimental_attention_variant": "gated_delta_net",
        "linear_attention_freq": 4,
        "mtp_num_layers": 1,
    }
    given |= {
        "num_layers": 4,
        "pipeline_model_parallel_layout": "layout",
        "transformer_layer_spec": layer_spec,
    }
    return SimpleNamespace(stage=stage, **CUT | given | options)


@pytest.fixture
def upstream(release: str) -> ModuleType:
    del release
    return importlib.import_module("megatron.bridge.models.gpt_provider")


@pytest.mark.parametrize("stage", [(), (2, 3), (0, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"linear_attention_freq": [1, 1, 0, 1], "mtp_num_layers": 2},
        {"linear_attention_freq": [1, 1, 1, 1]},
    ],
)
def test_mtp_layer_has_full_attention_in_any_stage(
    upstream: ModuleType, stage: tuple[int, ...], options: dict[str, Any]
) -> None:
    config = config_of(*stage, **options)
    before = dict(vars(config))
    mtp_bridge_patch.apply()
    count = config.mtp_num_layers
    assert upstream.mtp_block_spec(config, vp_stage=1) == f"{count} like full 3, chunk 1"
    assert vars(config) == before


def test_stage_with_full_attention_is_as_upstream_makes_it(upstream: ModuleType) -> None:
    config = config_of(2, 3)
    expected = upstream.mtp_block_spec(config, 0)
    mtp_bridge_patch.apply(only=["mtp-any-stage"])
    assert upstream.mtp_block_spec(config, 0) == expected == "1 like full 3, chunk 0"


@pytest.mark.parametrize(
    "options",
    [
        {"mtp_num_layers": None},
        {"experimental_attention_variant": None},
        {"experimental_attention_variant": "dsa"},
    ],
)
def test_other_models_are_upstreams(upstream: ModuleType, options: dict[str, Any]) -> None:
    config = config_of(0, 1, **options)
    expected = upstream.mtp_block_spec(config)
    mtp_bridge_patch.apply(only=["mtp-any-stage"])
    assert upstream.mtp_block_spec(config) == expected


def test_without_the_fix_a_stage_without_layers_crashes(install_release: Callable[[str], Path]) -> None:
    install_release("0.6.2")
    mtp_bridge_patch.apply(skip=["mtp-any-stage"])
    module = importlib.import_module("megatron.bridge.models.gpt_provider")
    with pytest.raises(AssertionError, match="not supported"):
        module.mtp_block_spec(config_of())

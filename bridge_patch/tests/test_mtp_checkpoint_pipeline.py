"""A Megatron checkpoint's pipeline layout holds for as many stages as it was made for."""

import importlib
from types import ModuleType
from typing import Any

import pytest

import mtp_bridge_patch

STAGES, LAYOUT = "pipeline_model_parallel_size", "pipeline_model_parallel_layout"
EMBEDDING, LOSS = "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split"
SAVED = [["embedding", "decoder"], ["decoder", "mtp", "loss"]]
"""In two stages."""


@pytest.fixture
def upstream(release: str) -> ModuleType:
    del release
    return importlib.import_module("megatron.bridge.training.model_load_save")


@pytest.mark.parametrize(
    ("asked_for", "cut"),
    [
        (None, (1, None, False, False)),
        ({STAGES: 2}, (2, SAVED, True, True)),
        ({STAGES: 2, LAYOUT: None}, (2, None, True, True)),
        ({STAGES: 2, LAYOUT: "Ett|mL"}, (2, "Ett|mL", True, True)),
        ({STAGES: 4}, (4, None, False, False)),
        ({STAGES: 4, LAYOUT: "E|t|t|mL"}, (4, "E|t|t|mL", False, False)),
        ({STAGES: 4, EMBEDDING: True}, (4, None, True, False)),
        ({STAGES: 2, LOSS: False}, (2, SAVED, True, False)),
    ],
)
def test_cut_is_the_checkpoints_or_what_is_asked_for(
    upstream: ModuleType, asked_for: dict[str, Any] | None, cut: tuple[Any, ...]
) -> None:
    mtp_bridge_patch.apply(only=["checkpoint-pipeline"])
    config = upstream.load_megatron_model("folder", mp_overrides=asked_for)
    assert tuple(getattr(config, name) for name in (STAGES, LAYOUT, EMBEDDING, LOSS)) == cut


def test_config_that_is_loaded_by_itself_is_as_it_was_saved(upstream: ModuleType) -> None:
    mtp_bridge_patch.apply(only=["checkpoint-pipeline"])
    upstream.load_megatron_model("folder", mp_overrides={STAGES: 4})
    assert getattr(upstream.load_model_config("folder")[0], LAYOUT) == SAVED


def test_without_the_fix_another_pipeline_gets_the_layout(upstream: ModuleType) -> None:
    mtp_bridge_patch.apply(skip=["checkpoint-pipeline"])
    config = upstream.load_megatron_model("folder", mp_overrides={STAGES: 4, LAYOUT: None})
    assert getattr(config, LAYOUT) == SAVED


LIST, OBJECT = [["embedding"]], {"_target_": "megatron.core...PipelineParallelLayerLayout", "_call_": True}


@pytest.mark.parametrize(("saved", "read"), [(OBJECT, None), (LIST, LIST), (None, None), ("E|tL", "E|tL")])
def test_layout_that_was_saved_without_its_stages_is_none(
    upstream: ModuleType, monkeypatch: pytest.MonkeyPatch, saved: object, read: object
) -> None:
    del upstream
    module = importlib.import_module("megatron.bridge.training.checkpointing")
    saved_config = {"model": {LAYOUT: saved, "num_layers": 4}, "train": 1}
    monkeypatch.setattr(module, "RUN_CONFIG", saved_config)
    mtp_bridge_patch.apply(only=["checkpoint-pipeline"])
    assert module.read_run_config("run_config.yaml") == {"model": {LAYOUT: read, "num_layers": 4}, "train": 1}
    assert saved_config["model"] == {LAYOUT: saved, "num_layers": 4}, "upstream keeps what it has read"


def test_config_of_another_kind_is_left_alone(upstream: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    del upstream
    module = importlib.import_module("megatron.bridge.training.checkpointing")
    monkeypatch.setattr(module, "RUN_CONFIG", {"train": 1})
    mtp_bridge_patch.apply(only=["checkpoint-pipeline"])
    assert module.read_run_config("run_config.yaml") == {"train": 1}

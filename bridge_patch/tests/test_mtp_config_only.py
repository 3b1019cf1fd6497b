"""An export without the checkpoint at hand has the layouts that were chosen, recorded, or published."""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fixes.config_only.export import export_layout
from mtp_bridge_patch.fixes.config_only.record import FILE_NAME, ExportRecord
from mtp_bridge_patch.upstream.conversion import current
from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import Block

Make = Callable[..., SimpleNamespace]

CONFIG = SimpleNamespace(model_type="qwen3_5_moe")
OUTPUT = "language_model.output_layer.weight"
PER_EXPERT = "model.language_model.layers.0.mlp.experts.0.{}_proj.weight"
PACKED = "mtp.layers.0.mlp.experts."
KEYS = (*map(PER_EXPERT.format, ("gate", "up", "down")), PACKED + "gate_up_proj", PACKED + "down_proj")
RECORD = ExportRecord(ExpertLayout.PER_EXPERT, ExpertLayout.PACKED)


@pytest.fixture
def bridge(patched_module: Callable[[str], ModuleType]) -> Any:
    return patched_module("config-only-export").Qwen35VLMoEBridge()


def layouts(bridge: Any, model: SimpleNamespace) -> tuple[str, str]:
    """Return the layouts of an export, decoder and MTP, once it has begun."""
    bridge.build_conversion_tasks(CONFIG, [model])
    chosen = current(bridge).layouts  # type: ignore[union-attr]
    return chosen[Block.DECODER], chosen[Block.MTP]  # type: ignore[index]


def test_mtp_layouts_are_recorded_by_a_load(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    model = chunk(OUTPUT)
    model.language_model = SimpleNamespace(config=SimpleNamespace())
    bridge.load_weights_hf_to_megatron(checkpoint(*KEYS), [model])
    assert ExportRecord.on(model.config) == ExportRecord.on(model.language_model.config) == RECORD


def test_mtp_chosen_before_recorded_before_published(
    bridge: Any, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    RECORD.put_on([(recorded := chunk(OUTPUT)).config])
    assert layouts(bridge, recorded) == ("per-expert", "packed")
    with export_layout(decoder="packed", mtp=ExpertLayout.PACKED):
        assert layouts(type(bridge)(), recorded) == ("packed", "packed")
    assert not caplog.records
    assert layouts(type(bridge)(), chunk(OUTPUT)) == ("packed", "per-expert")
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "packed in the decoder and per-expert in MTP layers" in warning.message


def test_warning_names_what_there_is(bridge: Any, chunk: Make, caplog: pytest.LogCaptureFixture) -> None:
    layouts(bridge, chunk(OUTPUT))
    assert "choose with mtp_bridge_patch.export_layout(" in caplog.text
    assert mtp_bridge_patch.export_layout is export_layout


@pytest.mark.parametrize("layout", ["fp8-per-expert", "absent"])
def test_layouts_that_no_export_writes_are_refused(layout: str) -> None:
    with pytest.raises(ValueError, match=rf"cannot export {layout}: choose packed or per-expert"):
        export_layout(mtp=layout).__enter__()


def test_mtp_export_without_the_fp8_checkpoint_warns(
    bridge: Any, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    record = ExportRecord(ExpertLayout.PER_EXPERT, ExpertLayout.FP8_PER_EXPERT)
    record.put_on([(recorded := chunk(OUTPUT)).config])
    layouts(bridge, recorded)
    [warning] = caplog.records
    assert "without the FP8 checkpoint" in warning.message


def test_export_layout_ends_with_its_block(bridge: Any, chunk: Make) -> None:
    with pytest.raises(KeyError), export_layout(mtp="packed"):
        raise KeyError
    assert layouts(bridge, chunk(OUTPUT)) == ("packed", "per-expert")


def test_mtp_export_has_the_layout_of_where_it_was_asked_for(
    bridge: Any, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def export() -> Any:
        return bridge.stream_weights_megatron_to_hf([model], CONFIG)

    model = chunk(OUTPUT, weight=1)
    with export_layout(mtp="packed"):
        first = export()
    with export_layout(mtp="per-expert", decoder="per-expert"):
        second = export()
    for exported, expected in ((first, ("packed", "packed")), (second, ("per-expert", "per-expert"))):
        assert [pair.param_name for pair in exported] == ["lm_head.weight"]
        chosen = current(bridge).layouts  # type: ignore[union-attr]
        assert (chosen[Block.DECODER], chosen[Block.MTP]) == expected  # type: ignore[index]
    assert not caplog.records


@pytest.mark.parametrize("names", [{"decoder": "rows"}, {"mtp": "PACKED"}, {"mtp": ""}])
def test_wrong_name_of_a_layout(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not a valid ExpertLayout"), export_layout(**names):
        pytest.fail("the block was entered")


def test_mtp_training_from_no_checkpoint_has_no_record(bridge: Any, tmp_path: Path) -> None:
    del bridge
    RECORD.write(tmp_path)
    checkpointing: Any = importlib.import_module("megatron.bridge.training.checkpointing")
    config = SimpleNamespace(model=SimpleNamespace())
    assert checkpointing._load_base_checkpoint(None, cfg=config)[1] == ""
    assert checkpointing._load_base_checkpoint(str(tmp_path))[1] == str(tmp_path)
    assert ExportRecord.on(config.model) is None


def test_remote_megatron_checkpoint_has_no_record_and_a_warning(
    bridge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    del bridge
    config: Any = importlib.import_module("megatron.bridge.training.config")
    monkeypatch.chdir(tmp_path)
    remote = "msc://bucket/iter_0000000"
    Path(remote).mkdir(parents=True)  # where the stand-in writes; upstream writes elsewhere
    RECORD.put_on([model := SimpleNamespace()])
    config.ConfigContainer(SimpleNamespace()).to_yaml(f"{remote}/run_config.yaml")
    assert not caplog.records
    config.ConfigContainer(model).to_yaml(f"{remote}/run_config.yaml")
    [warning] = caplog.records
    assert f"not recorded beside {remote}/run_config.yaml" in warning.message
    assert not Path(remote, FILE_NAME).exists()
    loads: Any = importlib.import_module("megatron.bridge.training.model_load_save")
    assert ExportRecord.on(loads.load_model_config(remote)[0]) is None


def test_tied_output_layer_is_left_out(bridge: Any, chunk: Make) -> None:
    for tied, expected in ((True, []), (False, ["lm_head.weight"])):
        config = SimpleNamespace(tie_word_embeddings=tied)
        exported = type(bridge)().stream_weights_megatron_to_hf([chunk(OUTPUT, weight=1)], config)
        assert [pair.param_name for pair in exported] == expected


def test_mtp_record_is_stored_and_restored_with_the_config(bridge: Any, tmp_path: Path) -> None:
    del bridge
    config: Any = importlib.import_module("megatron.bridge.training.config")
    loads: Any = importlib.import_module("megatron.bridge.training.model_load_save")
    RECORD.put_on([model := SimpleNamespace()])
    config.ConfigContainer(model).to_yaml(str(tmp_path / "other.yaml"))
    config.ConfigContainer(SimpleNamespace()).to_yaml(str(tmp_path / "run_config.yaml"))
    config.ConfigContainer(model).to_yaml()
    assert not (tmp_path / FILE_NAME).exists()
    loaded, arguments = loads.load_model_config(str(tmp_path))
    assert (ExportRecord.on(loaded), arguments) == (None, None)
    config.ConfigContainer(model).to_yaml(str(tmp_path / "run_config.yaml"))
    assert ExportRecord.on(loads.load_model_config(str(tmp_path))[0]) == RECORD
    checkpointing: Any = importlib.import_module("megatron.bridge.training.checkpointing")
    resumed = SimpleNamespace(model=SimpleNamespace())
    assert checkpointing._load_base_checkpoint(str(tmp_path), cfg=resumed)[1] == str(tmp_path)
    assert ExportRecord.on(resumed.model) == RECORD
    config.ConfigContainer(SimpleNamespace()).to_yaml(str(tmp_path / "run_config.yaml"))
    assert not (tmp_path / FILE_NAME).exists()  # it would be another model's
    (tmp_path / FILE_NAME).write_text("{}")
    with pytest.raises(CheckpointError):
        loads.load_model_config(str(tmp_path))

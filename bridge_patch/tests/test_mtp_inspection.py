"""The report on a checkpoint's routed experts: every layout, every way in, every fault."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtp_bridge_patch.expert_layout import ExpertLayout
from mtp_bridge_patch.index import read_checkpoint
from mtp_bridge_patch.inspection import inspect
from mtp_bridge_patch.report import LayoutError
from mtp_bridge_patch.untrusted import CheckpointError
from mtp_fixtures import PRESETS, CheckpointSpec, Scale, Sharding, preset

PACKED, PER_EXPERT = ExpertLayout.PACKED, ExpertLayout.PER_EXPERT
FP8, ABSENT = ExpertLayout.FP8_PER_EXPERT, ExpertLayout.ABSENT

PUBLISHED = {  # decoder, MTP, experts
    "qwen3.5-35b-a3b": (PACKED, PER_EXPERT, 8),
    "qwen3.5-397b-a17b": (PACKED, PER_EXPERT, 16),
    "qwen3.6-35b-a3b": (PACKED, PACKED, 8),
    "qwen3.6-35b-a3b-fp8": (FP8, FP8, 8),
    "qwen3.6-27b": (ABSENT, ABSENT, None),
    "qwen3.6-27b-fp8": (ABSENT, ABSENT, None),
}


def keys(name: str, **options: Any) -> list[str]:
    return [tensor.name for tensor in CheckpointSpec(preset(name), **options).tensors]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layouts(name: str, make_checkpoint: Any) -> None:
    report = inspect(make_checkpoint(name)).require_consistent()
    assert (report.decoder_layout, report.mtp_layout, report.num_experts) == PUBLISHED[name]
    assert report.mtp == {0: PUBLISHED[name][1]}
    assert report.mtp_layers_found == report.mtp_layers_declared == 1
    float32 = {"linear_attn.A_log": 3, "linear_attn.norm.weight": 3}
    assert report.float32 == (float32 if name.startswith("qwen3.5") else {})
    assert ("F8_E4M3" in report.dtypes) is name.endswith("fp8")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_consistent(name: str, make_checkpoint: Any) -> None:
    assert inspect(make_checkpoint(name)).problems == ()


@pytest.mark.parametrize("decoder", ExpertLayout)
@pytest.mark.parametrize("mtp", ExpertLayout)
def test_blocks_are_told_apart(decoder: ExpertLayout, mtp: ExpertLayout, make_checkpoint: Any) -> None:
    folder = make_checkpoint("qwen3.6-35b-a3b", layout=mtp, decoder_experts=decoder, mtp_layers=2)
    report = inspect(folder)
    assert (report.decoder_layout, report.mtp) == (decoder, {0: mtp, 1: mtp})
    assert bool(report.problems) is (ABSENT in (decoder, mtp))


class _Source:
    """Megatron-Bridge's SafeTensorsStateSource, as far as it matters here."""

    def __init__(self, path: Path | None, names: list[str]) -> None:
        self.path = path
        self._names = names

    def get_all_keys(self) -> list[str]:
        return self._names


def _ways(folder: Path) -> Iterator[tuple[str, object, dict[str, Any]]]:
    """Yield every way in, with what only names can tell."""
    headers = read_checkpoint(folder)
    names = list(headers.tensors)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    as_object = SimpleNamespace(**config | {"text_config": SimpleNamespace(**config["text_config"])})
    source = _Source(folder, names)
    yield "folder", folder, {}
    yield "folder as text", str(folder), {}
    yield "index", folder, {"index_only": True}
    yield "keys", names, {"config": config}
    yield "generator of keys", (name for name in names), {"config": as_object}
    yield "headers", headers.tensors, {"config": config}
    yield "source", source, {}
    yield "state", SimpleNamespace(source=source), {}
    yield "hf_pretrained", SimpleNamespace(state=SimpleNamespace(source=source), config=as_object), {}
    without_path = SimpleNamespace(state=SimpleNamespace(source=_Source(None, names)), config=as_object)
    yield "hf_pretrained without a folder", without_path, {}


def test_every_way_in_says_the_same(make_checkpoint: Any) -> None:
    folder = make_checkpoint("qwen3.5-35b-a3b")
    for way, source, options in _ways(folder):
        report = inspect(source, **options).require_consistent()
        assert (report.decoder_layout, report.mtp_layout) == (PACKED, PER_EXPERT), way
        assert report.mtp_layers_declared == 1, way
        assert report.num_experts == 8, way


def test_single_file(make_checkpoint: Any) -> None:
    folder = make_checkpoint("qwen3.6-35b-a3b", sharding=Sharding.SINGLE)
    for source in (folder, folder / "model.safetensors"):
        assert inspect(source).mtp_layout is PACKED


def test_config_alone_says_what_is_declared(make_checkpoint: Any) -> None:
    config = json.loads((make_checkpoint("qwen3.6-35b-a3b") / "config.json").read_text(encoding="utf-8"))
    report = inspect(config)
    assert report.mtp_layers_declared == 1
    assert report.mtp == {}
    assert report.problems == ()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        inspect(tmp_path / "absent")
    with pytest.raises(TypeError, match="int is no path"):
        inspect(7)


FAULTS = {  # what the one problem must say; MTP experts of Qwen3.6 are packed
    "both-layouts": "MTP layer 0: both layouts: 2 keys (*) packed, and 24 keys (* and 21 more) per expert",
    "packed-on-layer-1-only": "MTP: layers of both layouts: per-expert in layer 0, packed in layer 1",
    "half-packed": "MTP layer 0: half of a packed pair: 1 key (mtp.layers.0.mlp.experts.down_proj) missing",
    "mtp-declared-absent": "MTP: config.json declares 1 MTP layer, and there is no MTP tensor",
    "mtp-undeclared": "MTP: there are MTP tensors, and config.json declares no MTP layer",
    "down-transposed": "MTP layer 0: shapes or dtypes of 1 key (*down_proj BF16 [[]8, 136, 168])",
    "total-size": "the index says 4161666 bytes of tensors, there are 8323332",
}
PER_EXPERT_FAULTS = {
    "expert-missing": ["MTP layer 0: expert 7 missing of 8: 3 keys (*.7.gate_proj.weight, *)"],
    "expert-gap": [
        "MTP layer 0: expert 4 missing of 8: 3 keys (*)",
        "MTP layer 0: expert 8 beyond the 8 of config.json: 3 keys (*)",
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(fault: str, make_checkpoint: Any) -> None:
    report = inspect(make_checkpoint("qwen3.6-35b-a3b", fault=fault))
    (problem,) = report.problems
    assert _like(problem, FAULTS[fault]), problem
    with pytest.raises(LayoutError) as caught:
        report.require_consistent()
    assert problem in str(caught.value)
    assert report.checkpoint in str(caught.value)


@pytest.mark.parametrize("fault", PER_EXPERT_FAULTS)
def test_fault_of_single_experts_is_named(fault: str, make_checkpoint: Any) -> None:
    problems = inspect(make_checkpoint("qwen3.5-35b-a3b", fault=fault)).problems
    assert len(problems) == len(PER_EXPERT_FAULTS[fault])
    assert all(map(_like, problems, PER_EXPERT_FAULTS[fault])), problems


@pytest.mark.parametrize("fault", ["gate-up-swapped", "non-finite", "misleading-name"])
def test_what_no_name_tells_is_no_problem(fault: str, make_checkpoint: Any) -> None:
    report = inspect(make_checkpoint("qwen3.6-35b-a3b", fault=fault))
    assert report.problems == ()
    assert report.mtp_layout is PACKED


def test_contradicting_count_of_experts(make_checkpoint: Any) -> None:
    problems = inspect(make_checkpoint("qwen3.6-35b-a3b", fault="expert-count")).problems
    assert len(problems) == 5  # four decoder layers and one MTP layer
    assert all("[8, 272, 168]" in problem for problem in problems)
    problems = inspect(make_checkpoint("qwen3.5-35b-a3b", fault="expert-count")).problems
    assert "MTP layer 0: 4 experts (4, 5, 6, ...) beyond the 4 of config.json" in problems[0]


def test_every_problem_is_reported_at_once() -> None:
    names = keys("qwen3.6-35b-a3b", mtp_layers=3)
    names = [name for name in names if name != "mtp.layers.0.mlp.experts.down_proj"]
    names = [name for name in names if not name.startswith("mtp.layers.2.")]
    names += ["mtp.layers.1.mlp.experts.5.up_proj.weight", "mtp.layers.4.input_layernorm.weight"]
    config = {"num_experts": 8, "mtp_num_hidden_layers": 3, "num_hidden_layers": 4, "model_type": "x"}
    problems = inspect(names, config=config).problems
    for part in (
        "MTP layer 0: half of a packed pair",
        "MTP layer 1: both layouts",
        "MTP layer 1: 7 experts (0, 1, 2, ...) missing of 8: 21 keys",
        "MTP layer 1: projections missing: 2 keys",
        "MTP: 1 of the 3 layers of config.json are missing",
        "MTP: layer 4 beyond the 3 of config.json",
        "no routed experts in MTP layer 4",
    ):
        assert sum(problem.startswith(part) for problem in problems) == 1, (part, problems)


def test_missing_scale_is_named() -> None:
    names = keys("qwen3.6-35b-a3b-fp8")
    gone = "mtp.layers.0.mlp.experts.3.up_proj.weight_scale_inv"
    (problem,) = inspect([name for name in names if name != gone]).problems
    assert problem == f"MTP layer 0: scales missing: 1 key ({gone})"


def test_wrong_shape_of_a_scale_is_named(make_checkpoint: Any) -> None:
    tensors = dict(read_checkpoint(make_checkpoint("qwen3.6-35b-a3b-fp8")).tensors)
    key = "mtp.layers.0.mlp.experts.3.up_proj.weight_scale_inv"
    tensors[key] = tensors[key]._replace(shape=(1, 2))
    (problem,) = inspect(tensors).problems
    assert key in problem


def test_half_a_row_of_gate_and_up_is_named(make_checkpoint: Any) -> None:
    tensors = dict(read_checkpoint(make_checkpoint("qwen3.6-35b-a3b")).tensors)
    key = "mtp.layers.0.mlp.experts.gate_up_proj"
    tensors[key] = tensors[key]._replace(shape=(8, 273, 168))
    (problem,) = inspect(tensors).problems
    assert f"{key} BF16 [8, 273, 168]" in problem


def test_huge_numbers_cost_nothing() -> None:
    """An expert's number is no reason to list all below it."""
    (problem,) = inspect(
        [f"mtp.layers.0.mlp.experts.{10**8}.{name}_proj.weight" for name in ("gate", "up", "down")]
    ).problems
    assert problem.startswith("MTP layer 0: 100000000 experts (0, 1, 2, ...) missing of 100000001")
    config = {"num_experts": 10**18, "mtp_num_hidden_layers": 10**18, "num_hidden_layers": 10**18}
    assert inspect(keys("qwen3.5-35b-a3b"), config=config | {"model_type": "x"}).problems


def test_names_of_models_and_folders_say_nothing(tmp_path: Path) -> None:
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    assert inspect(spec.write(tmp_path / "Qwen3.5-35B-A3B")).mtp_layout is PACKED


def test_real_geometry(tmp_path: Path) -> None:
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b-fp8"), scale=Scale.REAL)
    folder = spec.write(tmp_path / "real", sparse=True)
    for index_only in (True, False):
        report = inspect(folder, index_only=index_only).require_consistent()
        assert (report.decoder_layout, report.mtp_layout, report.num_experts) == (FP8, FP8, 256)
        assert len(report.decoder) == 40


def _like(text: str, pattern: str) -> bool:
    """Whether a text is as a pattern says, in which * stands for anything."""
    from fnmatch import fnmatchcase

    return fnmatchcase(text, pattern)

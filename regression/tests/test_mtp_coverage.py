"""Every key taken once, every parameter filled once: Megatron-Bridge's tasks on the ranks of a layout."""

from pathlib import Path

import pytest
from coverage_jobs import held

from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.faults.write import write_faulty
from mtp_regression.coverage.judgement import Coverage, cover
from mtp_regression.coverage.tasks import parameter_tasks
from mtp_regression.plugin import OnRanks
from mtp_regression.ranks.parallel import Parallel

from .coverage_command import report, tiny

pytestmark = pytest.mark.megatron

EP2 = Parallel(ep=2)
LAYOUTS = ("tp1", "ep2", "tp2 etp2", "pp2 vpp2", "tp2 pp2 ep4")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("experts", ["per-expert", "packed"])
def test_every_rank_of_a_layout_is_covered(experts: str, layout: str) -> None:
    exit_code, found = tiny("qwen3.5-35b-a3b", "--mtp-experts", experts, "--parallel", layout)
    assert (exit_code, found["covered"]) == (0, True), found
    assert (found["parallel"], found["mtp_experts"]) == (layout, experts)
    assert found["ranks"] == len(found["parameters"]) == Parallel.parse(layout).ranks
    assert found["parameters"] == found["filled"]


@pytest.mark.parametrize("name", ["qwen3.5-0.8b", "qwen3.6-27b"])
def test_dense_models_are_covered_tied_or_not(name: str) -> None:
    exit_code, found = tiny(name, "--parallel", "tp2 pp2")
    assert (exit_code, found["covered"]) == (0, True), found


def test_ranks_without_processes_hold_what_real_ranks_hold(
    checkpoints: dict[str, Path], tmp_path: Path, on_ranks: OnRanks
) -> None:
    """The same names, tasks and keys as on eight gloo ranks, which tell each other their names."""
    checkpoint, parallel = checkpoints["qwen3.6-35b-a3b"], Parallel(tp=2, pp=2, ep=2, ranks=8)
    alone = parameter_tasks(checkpoint, parallel, patched=False, time_limit=120, log_folder=tmp_path / "a")
    assert alone == on_ranks(held, checkpoint, parallel, ranks=parallel.ranks)


def coverage_of(folder: Path, logs: Path) -> Coverage:
    found = parameter_tasks(folder, EP2, patched=False, time_limit=120, log_folder=logs)
    shapes = {name: header.shape for name, header in read_checkpoint(folder).tensors.items()}
    return cover(shapes, found, EP2)


def test_absent_expert_starves_its_two_parameters(tmp_path: Path) -> None:
    spec = CheckpointSpec(preset("qwen3.5-35b-a3b"))
    found = coverage_of(write_faulty(spec, "expert-missing", tmp_path / "faulty"), tmp_path / "logs")
    missing = {tensor.name for tensor in spec.tensors} - read_checkpoint(tmp_path / "faulty").tensors.keys()
    assert len(missing) == 3
    assert len(found.starved) == 2
    assert {key for keys in found.starved.values() for key in keys} == missing
    assert (found.unused, found.covered) == ([], False)


def test_undeclared_mtp_leaves_its_keys_unused(tmp_path: Path) -> None:
    spec = CheckpointSpec(preset("qwen3.5-35b-a3b"))
    found = coverage_of(write_faulty(spec, "mtp-undeclared", tmp_path / "faulty"), tmp_path / "logs")
    mtp = {tensor.name for tensor in spec.tensors if tensor.name.startswith("mtp.")}
    assert len(mtp) == 19 - 2 + 3 * 8, "19 with packed experts"
    assert set(found.unused) == mtp
    assert not found.covered


def test_second_mtp_layer_is_covered_by_the_patch_alone() -> None:
    exit_code, found = tiny("qwen3.6-35b-a3b", "--mtp-layers", 2, "--parallel", "ep2")
    assert exit_code == 1
    assert "language_model.mtp.layers.1.eh_proj.weight" in found["unmapped"]
    assert all("mtp.layers.1." in name for name in found["unmapped"])
    exit_code, found = tiny("qwen3.6-35b-a3b", "--mtp-layers", 2, "--parallel", "ep2", "--patched")
    assert (exit_code, found["covered"]) == (0, True), found


def test_scales_of_fp8_are_taken_by_the_patch_alone() -> None:
    exit_code, found = tiny("qwen3.5-35b-a3b-fp8", "--parallel", "ep2")
    assert exit_code == 1
    assert found["unused"]
    assert all(name.endswith("_scale_inv") for name in found["unused"])
    exit_code, found = tiny("qwen3.5-35b-a3b-fp8", "--parallel", "ep2", "--patched")
    assert (exit_code, found["covered"]) == (0, True), found


def test_published_dimensions_are_covered() -> None:
    """Limits of time and memory are those of `nox -s coverage`."""
    exit_code, found = report("qwen3.6-35b-a3b", "--parallel", "ep8")
    assert exit_code == 0, found
    assert found["keys"] == 1045  # as published
    assert found["pieces"] == 1045 + (40 + 1) * 2 * (256 - 1)
    routed = (40 + 1) * 2 * 256
    assert sum(found["filled"]) - routed == 8 * (found["filled"][0] - routed // 8)

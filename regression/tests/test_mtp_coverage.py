"""Every key taken once, every parameter filled once: the judgement, and Megatron-Bridge under it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_bridge_patch.index import read_checkpoint
from mtp_bridge_patch.releases import installed_release
from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.faults import write_faulty
from mtp_regression import coverage_commands, ranks
from mtp_regression.cli import app
from mtp_regression.coverage import Coverage, Parameter, RankParameters, cover
from mtp_regression.coverage_limits import resident
from mtp_regression.number_ranges import with_ranges
from mtp_regression.parallel import Coordinates, Parallel
from mtp_regression.parameter_tasks import ADAPTER, parameter_tasks

pytestmark = pytest.mark.xdist_group("megatron")

# A model by hand: two experts, packed in the decoder and single in the MTP layer.
SHAPES = {
    "model.embed_tokens.weight": (8, 4),
    "model.layers.0.mlp.experts.down_proj": (2, 4, 3),
    "mtp.fc.weight": (4, 8),
    "mtp.layers.0.mlp.experts.0.down_proj.weight": (4, 3),
    "mtp.layers.0.mlp.experts.1.down_proj.weight": (4, 3),
}
EMBEDDING = Parameter("embedding", 1, ["model.embed_tokens.weight"])
FC = Parameter("mtp.layers.0.eh_proj", 1, ["mtp.fc.weight"])


def packed(expert: int) -> Parameter:
    return Parameter(f"decoder.fc2.weight{expert}", 1, ["model.layers.0.mlp.experts.down_proj"], expert)


def single(expert: int) -> Parameter:
    return Parameter(f"mtp.fc2.weight{expert}", 1, [f"mtp.layers.0.mlp.experts.{expert}.down_proj.weight"])


EP2 = Parallel(ep=2)
PP2 = Parallel(pp=2)


def ep2() -> list[RankParameters]:
    return [
        RankParameters(rank, Coordinates(ep=rank), [EMBEDDING, FC, packed(rank), single(rank)])
        for rank in range(2)
    ]


def pp2() -> list[RankParameters]:
    return [
        RankParameters(0, Coordinates(pp=0), [EMBEDDING, packed(0), packed(1)]),
        RankParameters(1, Coordinates(pp=1), [EMBEDDING, FC, single(0), single(1)]),
    ]


def test_layout_in_which_all_is_taken_is_covered() -> None:
    found = cover(SHAPES, ep2(), EP2)
    assert found.covered, found
    assert (found.pieces, found.parameters, found.filled) == (6, [4, 4], [4, 4])


def test_embedding_has_a_second_copy_where_mtp_is_on_another_stage() -> None:
    assert cover(SHAPES, pp2(), PP2).covered
    held = pp2()
    held[1].parameters.remove(EMBEDDING)
    assert cover(SHAPES, held, PP2).copies == {"model.embed_tokens.weight": (1, 2)}


def test_parameter_without_a_mapping_is_named_once() -> None:
    held = ep2()
    for rank in held:
        rank.parameters.append(Parameter("mtp.layers.1.eh_proj", 0, None))
    found = cover(SHAPES, held, EP2)
    assert (found.unmapped, found.covered, found.filled) == (["mtp.layers.1.eh_proj"], False, [4, 4])


@pytest.mark.parametrize("filled", [0, 1], ids=["no task", "a task all the same"])
def test_parameter_whose_key_is_not_there_is_starved(filled: int) -> None:
    held = ep2()
    held[1].parameters[3] = Parameter("mtp.fc2.weight1", filled, ["absent.weight"])
    found = cover(SHAPES, held, EP2)
    assert found.starved == {"mtp.fc2.weight1": ["absent.weight"]}
    assert found.unused == ["mtp.layers.0.mlp.experts.1.down_proj.weight"]
    assert not found.covered


def test_slice_beyond_a_packed_tensor_is_not_there() -> None:
    held = ep2()
    held[1].parameters[2] = packed(2)
    found = cover(SHAPES, held, EP2)
    assert found.starved == {"decoder.fc2.weight2": ["model.layers.0.mlp.experts.down_proj"]}
    assert found.unused == ["model.layers.0.mlp.experts.down_proj[1]"]


def test_parameter_that_no_task_fills_although_it_could() -> None:
    held = ep2()
    held[1].parameters[3] = single(1)._replace(filled=0)
    found = cover(SHAPES, held, EP2)
    assert (found.unfilled, found.covered, found.filled) == (["mtp.fc2.weight1"], False, [4, 3])


def test_parameter_that_two_tasks_fill() -> None:
    held = ep2()
    held[0].parameters[1] = FC._replace(filled=2)
    found = cover(SHAPES, held, EP2)
    assert (found.refilled, found.covered) == (["mtp.layers.0.eh_proj"], False)


def test_task_that_fills_no_parameter() -> None:
    held = ep2()
    held[1] = dataclasses.replace(held[1], strays=3)
    found = cover(SHAPES, held, EP2)
    assert (found.strays, found.covered) == ({1: 3}, False)


def test_key_that_two_parameters_take() -> None:
    held = ep2()
    held[0].parameters[3] = single(0)._replace(name="mtp.fc2.weight1")
    found = cover(SHAPES, held, EP2)
    assert not found.shared
    held[0].parameters.append(single(0))
    found = cover(SHAPES, held, EP2)
    assert found.shared == {
        "mtp.layers.0.mlp.experts.0.down_proj.weight": ["mtp.fc2.weight1", "mtp.fc2.weight0"]
    }
    assert not found.covered


def test_experts_numbered_from_zero_on_every_rank_leave_the_others_unused() -> None:
    held = ep2()
    held[1].parameters[2:] = [packed(0), single(0)]
    found = cover(SHAPES, held, EP2)
    assert len(found.unused) == 2
    assert found.copies == {
        "model.layers.0.mlp.experts.down_proj[0]": (2, 1),
        "mtp.layers.0.mlp.experts.0.down_proj.weight": (2, 1),
    }


def test_rank_that_lacks_a_parameter_of_its_like() -> None:
    held = ep2()
    held[1].parameters.remove(FC)
    found = cover(SHAPES, held, EP2)
    assert (found.copies, found.covered) == ({"mtp.fc.weight": (1, 2)}, False)


def test_mtp_layers_share_only_what_is_there_once() -> None:
    second = Parameter("mtp.layers.1.eh_proj", 1, ["mtp.fc.weight"])
    held = ep2()
    for rank in held:
        rank.parameters.append(second)
    assert cover(SHAPES, held, EP2).shared == {"mtp.fc.weight": [FC.name, second.name]}
    assert cover(SHAPES, held, EP2, mtp_layers_share=2).covered
    assert cover(SHAPES, ep2(), EP2, mtp_layers_share=2).shared == {"mtp.fc.weight": [FC.name]}


def test_nothing_is_not_covered() -> None:
    held = [RankParameters(0, Coordinates(), [])]
    assert not cover({}, held, Parallel()).covered
    assert not cover(SHAPES, held, Parallel()).covered


def test_ranks_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ranks expected"):
        cover(SHAPES, ep2()[:1], EP2)


def test_number_ranges_hold_every_name() -> None:
    names = [
        f"layers.{layer}.fc{fc}.weight{expert}" for layer in (0, 1) for fc in (1, 2) for expert in range(9)
    ]
    assert with_ranges(names) == ["layers.{0..1}.fc{1..2}.weight{0..8}"]
    names.remove("layers.1.fc2.weight4")
    assert with_ranges(names) == [
        "layers.0.fc{1..2}.weight{0..8}",
        "layers.1.fc1.weight{0..8}",
        "layers.1.fc2.weight{0..3,5..8}",
    ]
    assert with_ranges(["a", "w007", "w7", "w9", "w9"]) == ["a", "w007", "w{7,9}"]


def tiny(*arguments: object) -> tuple[int, dict[str, Any]]:
    command = ["coverage", *map(str, arguments), "--scale", "tiny", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.stdout, result.stderr
    return result.exit_code, json.loads(result.stdout)


LAYOUTS = ("tp1", "ep2", "tp2 etp2", "pp2 vpp2", "tp2 pp2 ep4")


def options(layout: str) -> list[str]:
    return [word for size in layout.split() for word in (f"--{size[:-1]}", size[-1])]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("experts", ["per-expert", "packed"])
def test_every_rank_of_a_layout_is_covered(experts: str, layout: str) -> None:
    exit_code, found = tiny("qwen3.5-35b-a3b", "--mtp-layout", experts, *options(layout))
    assert (exit_code, found["covered"]) == (0, True), found
    assert (found["parallel"], found["mtp_layout"]) == (layout, experts)
    assert found["ranks"] == len(found["parameters"]) == Parallel.parse(layout).ranks
    assert found["parameters"] == found["filled"]


@pytest.mark.parametrize("name", ["qwen3.5-0.8b", "qwen3.6-27b"])
def test_dense_models_are_covered_tied_or_not(name: str) -> None:
    exit_code, found = tiny(name, *options("tp2 pp2"))
    assert (exit_code, found["covered"]) == (0, True), found


def test_ranks_without_processes_hold_what_real_ranks_hold(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names, tasks and keys as on eight gloo ranks, which tell each other their names."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from coverage_jobs import held

    checkpoint, parallel = checkpoints["qwen3.6-35b-a3b"], Parallel(tp=2, pp=2, ep=2, ranks=8)
    alone = parameter_tasks(checkpoint, parallel, patched=False, time_limit=120, log_folder=tmp_path / "a")
    together = ranks.run(
        held,
        str(checkpoint),
        str(parallel),
        world_size=8,
        time_limit=120,
        log_folder=tmp_path / "b",
        preload=[ADAPTER],
    )
    assert json.loads(json.dumps([dataclasses.asdict(rank) for rank in alone])) == together


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
    exit_code, found = tiny("qwen3.6-35b-a3b", "--mtp-layers", 2, "--ep", 2)
    assert exit_code == 1
    assert "language_model.mtp.layers.1.eh_proj.weight" in found["unmapped"]
    assert all("mtp.layers.1." in name for name in found["unmapped"])
    exit_code, found = tiny("qwen3.6-35b-a3b", "--mtp-layers", 2, "--ep", 2, "--patched")
    assert (exit_code, found["covered"]) == (0, True), found


def test_scales_of_fp8_are_taken_by_the_patch_alone() -> None:
    exit_code, found = tiny("qwen3.5-35b-a3b-fp8", "--ep", 2)
    assert exit_code == 1
    assert found["unused"]
    assert all(name.endswith("_scale_inv") for name in found["unused"])
    exit_code, found = tiny("qwen3.5-35b-a3b-fp8", "--ep", 2, "--patched")
    assert (exit_code, found["covered"]) == (0, True), found


def test_published_dimensions_are_covered() -> None:
    """Limits of time and memory are those of `nox -s coverage`."""
    command = ["coverage", "qwen3.6-35b-a3b", "--ep", "8", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["keys"] == 1045  # as published
    assert found["pieces"] == 1045 + (40 + 1) * 2 * (256 - 1)
    routed = (40 + 1) * 2 * 256
    assert sum(found["filled"]) - routed == 8 * (found["filled"][0] - routed // 8)


def test_memory_of_a_process_is_counted_with_that_of_its_children() -> None:
    child = "import sys; held = b'x' * 200_000_000; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 200_000_000 < resident(process.pid) < 300_000_000
        process.communicate()


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["coverage", *arguments], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


def test_another_release_is_said_to_be_installed() -> None:
    assert f"megatron-bridge 0.0.1 is asked for, and {installed_release()} is installed" in refused(
        "qwen3.6-35b-a3b", "--bridge", "0.0.1"
    )


def test_release_that_is_installed_is_accepted() -> None:
    assert tiny("qwen3.6-35b-a3b", "--bridge", installed_release())[0] == 0


def test_layout_that_the_model_does_not_divide_by_says_why() -> None:
    assert "ep3" in refused("qwen3.6-35b-a3b", "--scale", "tiny", "--ep", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qwen4"], "'qwen4' is none of"),
        (["qwen3.6-35b-a3b", "--vpp", "2"], "at least two pipeline stages"),
        (["qwen3.6-27b", "--mtp-layout", "packed"], "experts"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_without_torch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mtp_regression.parameter_tasks", raising=False)
    assert "CONTRIBUTING.md" in refused("qwen3.6-35b-a3b", "--scale", "tiny")


def test_without_a_bridge_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage_commands, "installed_release", lambda: None)
    assert "CONTRIBUTING.md" in refused("qwen3.6-35b-a3b")


def test_person_sees_ranks_counts_and_verdict() -> None:
    command = ["coverage", "qwen3.6-35b-a3b", "--scale", "tiny", "--ep", "2"]
    output = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert output.startswith("qwen3.6-35b-a3b, MTP experts packed, ep2, megatron-bridge ")
    assert "rank 1 (tp0 pp0 ep1 etp0): " in output
    assert "covered: every key and every parameter once; " in output


def test_every_field_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")
    for name in tiny("qwen3.6-35b-a3b")[1]:
        assert f"`{name}`" in documented, name

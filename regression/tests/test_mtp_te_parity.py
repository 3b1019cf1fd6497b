"""The comparison of the stand-in's parameters with TransformerEngine's, on lists made by hand."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from mtp_fixtures import PRESETS, Scale
from mtp_regression.maintenance.te_parity import dump, run
from mtp_regression.maintenance.te_parity.compare import compare, show
from mtp_regression.ranks.parallel import GRID, Parallel

EXPERT = "0/mtp.layers.0.mlp.experts.linear_fc1.weight0"


def listed(engine: str) -> dict[str, Any]:
    """What a dump of one case holds: two ranks with two parameters each."""
    rank = [
        {"name": EXPERT, "shape": [4, 6], "dtype": "bfloat16", "partition_dim": 0, "allreduce": False},
        {"name": "0/final_layernorm.weight", "shape": [6], "dtype": "bfloat16"},
    ]
    case = {"preset": "qwen3.6-35b-a3b", "parallel": "ep2", "engine": f"TransformerEngine {engine}"}
    return {"cases": [{**case, "ranks": [copy.deepcopy(rank), copy.deepcopy(rank)]}]}


def differences(real: dict[str, Any]) -> list[str]:
    (cell,) = compare(listed("stand-in"), real)
    return cell.differences


def test_equal_lists_are_equal_whatever_their_order() -> None:
    real = listed("2.20.2")
    real["cases"][0]["ranks"][0].reverse()
    (cell,) = compare(listed("stand-in"), real)
    assert (cell.ranks, cell.parameters, cell.differences) == (2, 4, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [6, 4]}, "shape is [4, 6] in stand-in, [6, 4] in TransformerEngine"),
        ({"dtype": "float32"}, 'dtype is "bfloat16" in stand-in, "float32" in TransformerEngine'),
        ({"partition_dim": 1}, "partition_dim is 0 in stand-in, 1 in TransformerEngine"),
        ({"partition_dim": False}, "partition_dim is 0 in stand-in, false in TransformerEngine"),
        ({"allreduce": True}, "allreduce is false in stand-in, true in TransformerEngine"),
        ({"partition_stride": 1}, "partition_stride is absent in stand-in, 1 in TransformerEngine"),
        ({"tensor_model_parallel": None}, "tensor_model_parallel is absent in stand-in, null in "),
        ({"sequence_parallel": False}, "sequence_parallel is absent in stand-in, false in "),
    ],
)
def test_difference_is_told_by_name(change: dict[str, Any], told: str) -> None:
    real = listed("2.20.2")
    real["cases"][0]["ranks"][1][0] |= change
    (found,) = differences(real)
    assert found.startswith(f"rank 1: {EXPERT}: {told}")


def test_parameter_of_one_side_alone_is_told_by_name() -> None:
    real = listed("2.20.2")
    real["cases"][0]["ranks"][0][0]["name"] = "renamed"
    assert differences(real) == [
        f"rank 0: {EXPERT}: only in stand-in",
        "rank 0: renamed: only in TransformerEngine",
    ]


def test_name_that_comes_twice_is_told() -> None:
    real = listed("2.20.2")
    real["cases"][0]["ranks"][0].append(real["cases"][0]["ranks"][0][0])
    assert differences(real) == ["rank 0: TransformerEngine lists 1 parameters twice"]


def test_rank_of_one_side_alone_is_told() -> None:
    real = listed("2.20.2")
    del real["cases"][0]["ranks"][1]
    assert differences(real) == [
        f"rank 1: {EXPERT}: only in stand-in",
        "rank 1: 0/final_layernorm.weight: only in stand-in",
    ]


def test_nothing_compared_is_no_pass() -> None:
    empty = [listed("stand-in"), listed("2.20.2")]
    for side in empty:
        side["cases"][0]["ranks"] = [[], []]
    (cell,) = compare(*empty)
    assert cell.differences == ["no parameters at all"]


def test_case_of_one_side_alone_and_crash_are_told() -> None:
    assert differences({"cases": []}) == ["TransformerEngine: no such case"]
    crashed = listed("2.20.2")
    crashed["cases"][0] |= {"error": "rank 0 of 2 raised"}
    assert differences(crashed) == ["TransformerEngine: rank 0 of 2 raised"]


def test_stand_in_is_not_compared_with_itself() -> None:
    """Nor the real one: a parity of an engine with itself shows nothing."""
    assert differences(listed("stand-in")) == [
        "TransformerEngine: the modules came from TransformerEngine stand-in"
    ]
    (cell,) = compare(listed("2.20.2"), listed("2.20.2"))
    assert cell.differences == ["stand-in: the modules came from TransformerEngine 2.20.2"]


def test_describe_leaves_out_what_a_parameter_lacks() -> None:
    parameter = torch.nn.Parameter(torch.empty(2, 3, dtype=torch.bfloat16))
    parameter.partition_dim = 1
    parameter.unrelated = 1
    expected = {"name": "name", "shape": [2, 3], "dtype": "bfloat16", "partition_dim": 1}
    assert dump.describe("name", parameter) == expected


def test_every_model_and_layout_has_a_case() -> None:
    chosen = dump.presets()
    geometries = [model.geometry(Scale.TINY) for model in chosen]
    assert all(model.geometry(Scale.TINY) in geometries for model in PRESETS.values())  # FP8 ones too
    for model in chosen:
        assert dump.parallels_of(model) == (
            list(GRID) if model.is_moe else [parallel for parallel in GRID if "e" not in str(parallel)]
        )
    assert Parallel(tp=2, pp=2) in dump.parallels_of(PRESETS["qwen3.6-27b"])


def test_table_names_cell_and_difference(capsys: pytest.CaptureFixture[str]) -> None:
    real = listed("2.20.2")
    real["cases"][0]["ranks"][1][0]["shape"] = [6, 4]
    show(Console(width=120), compare(listed("stand-in"), real), "title")
    shown = capsys.readouterr().out
    assert "│ qwen3.6-35b-a3b │ ep2             │     2 │          4 │           1 │" in shown
    assert f"qwen3.6-35b-a3b, ep2: rank 1: {EXPERT}: shape is [4, 6]" in shown
    assert shown.endswith("1 cells, 4 parameters compared: 1 cells differ\n")


@pytest.mark.parametrize(("shape", "code"), [([4, 6], 0), ([6, 4], 1)])
def test_exit_code(shape: list[int], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dumps are made in other processes; here they are made by hand."""

    def make(command: list[str], **_options: object) -> SimpleNamespace:
        for name in (dump.STAND_IN, dump.REAL):
            if ["te-parity-dump", name] == command[3:5]:
                side = listed("stand-in" if name == dump.STAND_IN else "2.20.2")
                if name == dump.REAL:
                    side["cases"][0]["ranks"][0][0]["shape"] = shape
                (tmp_path / f"{name}.json").write_text(json.dumps(side))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("subprocess.run", make)
    assert run.main(["qwen3.6-35b-a3b"], [Parallel(ep=2)], tmp_path) == code


def test_without_the_real_one_nothing_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_args, **_kwargs: SimpleNamespace(returncode=1))
    assert run.main(["qwen3.6-35b-a3b"], [Parallel(ep=2)], tmp_path) == 2
    assert "nox -s te_parity" in capsys.readouterr().err

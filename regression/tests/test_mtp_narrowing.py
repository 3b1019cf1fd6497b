"""A bridge that narrows weights or computes with them is red where it does, for what it changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Coordinates, Parallel

from .conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]
Q35, Q36 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"


def run(main_job: Job, folder: Path, adapter: str, parallel: str = "tp1") -> dict[str, dict[str, Any]]:
    options = ["--adapter", adapter] if adapter else []
    _, report = main_job(folder, "--parallel", parallel, *EXPORTS, *options)
    return {record["stage"]: record for record in report["records"]}


def verdicts(records: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {export: record["verdict"] for export, record in records.items()}


def named(record: dict[str, Any]) -> set[str]:
    return {found["tensor"] for found in record["tensors"]}


def changed(folder: Path, change: str) -> dict[str, RawTensor]:
    """The checkpoint's tensors after one of `lossy_changes`."""
    from lossy_changes import CHANGES
    from safetensors.torch import load_file

    return {
        name: RawTensor.from_torch(CHANGES[change](tensor))
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def held(tensors: Tensors, folder: Path) -> dict[str, bytes]:
    config = json.loads((folder / "config.json").read_text())
    recipes = native_parameters(tensors, config, Parallel(), Coordinates())
    return {name.removeprefix("0/"): recipe().tobytes() for name, recipe in recipes.items()}


LOSSES = [
    ("Fp16", "exact"),
    ("Fp8", "exact"),
    ("WithoutDenormals", "exact"),
    ("WithoutSignOfZero", "exact"),
    ("WithoutNanPayload", "extreme"),
]


@pytest.mark.parametrize(("change", "value_range"), LOSSES)
def test_loss_on_import_is_in_the_model(
    change: str, value_range: str, make_checkpoint: MakeCheckpoint, main_job: Job
) -> None:
    """And so in what the model is exported as."""
    folder = make_checkpoint(Q36, value_range=value_range)
    records = run(main_job, folder, f"narrowing:{change}OnImport")
    assert verdicts(records) == dict.fromkeys(records, "wrong")
    right, narrow = held(read_folder(folder), folder), held(changed(folder, change), folder)
    assert named(records["native"]) == {name for name in right if right[name] != narrow[name]}


@pytest.mark.parametrize(("change", "value_range"), LOSSES)
def test_loss_on_export_is_in_both_exports_alone(
    change: str, value_range: str, make_checkpoint: MakeCheckpoint, main_job: Job
) -> None:
    folder = make_checkpoint(Q36, value_range=value_range)
    records = run(main_job, folder, f"narrowing:{change}OnExport")
    assert verdicts(records) == {"native": "exact", "stream": "wrong", "saved": "wrong"}
    right, narrow = read_folder(folder), changed(folder, change)
    lost = {name for name in right if not np.array_equal(right[name].data, narrow[name].data)}
    for export in ("stream", "saved"):
        wrong = {found["tensor"] for found in records[export]["tensors"] if found["verdict"] == "wrong"}
        assert wrong == lost


@pytest.mark.parametrize("change", ["Tf32", "Bf16"])
def test_rounding_twice_is_in_the_model(change: str, make_checkpoint: MakeCheckpoint, main_job: Job) -> None:
    """Only F32 tensors can show it. The exports are as they are declared: the bridge rounds them itself."""
    folder = make_checkpoint(Q35, value_range="rounding")
    records = run(main_job, folder, f"narrowing:{change}OnImport")
    assert verdicts(records) == {"native": "wrong", "stream": "exact", "saved": "exact"}
    right, narrow = held(read_folder(folder), folder), held(changed(folder, change), folder)
    twice = {name for name in right if right[name] != narrow[name]}
    assert named(records["native"]) == twice
    norms = {name for name in right if name.endswith(".out_norm.weight")}
    decays = {name for name in right if name.endswith(".A_log")}
    assert twice == norms if change == "Bf16" else twice == norms | decays


def test_narrowing_to_bf16_on_export_is_another_dtype(make_checkpoint: MakeCheckpoint, main_job: Job) -> None:
    """Of the patched bridge; the release as it is does that itself, which is declared."""
    folder = make_checkpoint(Q35)
    records = run(main_job, folder, "narrowing:PatchedBf16OnExport")
    assert verdicts(records) == {"native": "exact", "stream": "dtype", "saved": "dtype"}
    for export in ("stream", "saved"):
        assert named(records[export]) == {
            name for name, tensor in read_folder(folder).items() if tensor.dtype == "F32"
        }


@pytest.mark.parametrize(
    ("adapter", "preset", "value_range", "parallel"),
    [
        (MEGATRON_BRIDGE, Q35, "extreme", "tp2 pp2"),
        (MEGATRON_BRIDGE, Q36, "extreme", "tp2 ep2"),
        (PATCHED_MEGATRON_BRIDGE, Q35, "extreme", "tp2 ep2"),
        (PATCHED_MEGATRON_BRIDGE, f"{Q36}-fp8", "extreme", "tp2 ep2"),
        ("narrowing:Tf32OnExport", Q35, "rounding", "tp1"),
        ("narrowing:Bf16OnExport", Q36, "extreme", "tp1"),
    ],
)
def test_what_loses_nothing_is_exact(
    adapter: str,
    preset: str,
    value_range: str,
    parallel: str,
    make_checkpoint: MakeCheckpoint,
    main_job: Job,
) -> None:
    """The bridge itself, over ranks; and TF32 and BF16 hold every number of a model that is in BF16."""
    records = run(main_job, make_checkpoint(preset, value_range=value_range), adapter, parallel)
    assert verdicts(records) == dict.fromkeys(records, "exact")

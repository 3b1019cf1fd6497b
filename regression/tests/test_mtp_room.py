"""What a case with published dimensions takes of memory and disk, and that it is refused where they lack."""

import shutil
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from typer.testing import CliRunner

from mtp_checkpoint.layouts.keys import Block
from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_fixtures.model.scaling import with_decoder_layers
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.adapters.find import Examined
from mtp_regression.commands.app import app
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import GRID, Parallel, Resharding
from mtp_regression.roundtrip.launch import StartedRanks
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.roundtrip.room import lack_of_room, need_of
from mtp_regression.stages.case import CHECKS, Stage

GB = 10**9
PLENTY = {"memory": 10**15, "disk": 10**15, "gpu": 10**15}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that the machine says it has free, to be changed by a test; it has two GPUs."""
    amounts = dict(PLENTY)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=amounts["memory"]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=amounts["disk"]))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (amounts["gpu"], amounts["gpu"]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return amounts


@pytest.mark.parametrize(
    ("device", "layout", "what", "gigabytes", "told"),
    [
        ("cpu", "tp1", "memory", 144, "144.4 GB of memory (144.0 GB free)"),
        ("cuda", "tp1", "memory", 72, "72.5 GB of memory (72.0 GB free)"),
        ("cuda", "tp1", "gpu", 75, "75.1 GB of a GPU's memory (75.0 GB free)"),
        ("cuda", "ep2", "gpu", 42, "42.1 GB of a GPU's memory (42.0 GB free)"),
        ("cuda-shared", "ep4", "gpu", 51, "51.2 GB of a GPU's memory (51.0 GB free)"),
        ("cpu", "tp1", "disk", 71, "71.9 GB of disk at "),
    ],
)
def test_what_does_not_fit_is_refused_with_the_figures(
    free: dict[str, int], tmp_path: Path, device: str, layout: str, what: str, gigabytes: float, told: str
) -> None:
    free[what] = int(gigabytes * GB)
    words = ["--preset", "qwen3.6-35b-a3b", "--scale", "real", "--parallel", layout, "--device", device]
    report = tmp_path / "report.json"
    result = CliRunner().invoke(app, ["roundtrip", *words, "--report", str(report)], env={"COLUMNS": "200"})
    assert (result.exit_code, report.exists()) == (2, False)
    assert f"mtpkit: qwen3.6-35b-a3b, {layout}, needs {told}" in result.stderr


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("adapter", "gigabytes"),
    [
        (MEGATRON_BRIDGE, 18.97),  # an H100 had 18,971,799,040 bytes allocated at most
        (PATCHED_MEGATRON_BRIDGE, 14.57),
    ],
)
@pytest.mark.parametrize("parallel", [Parallel(), Resharding(Parallel(ep=2), Parallel())], ids=str)
def test_decoder_that_is_built_twice_needs_its_room_twice(
    free: dict[str, int], adapter: str, gigabytes: float, parallel: Parallel | Resharding
) -> None:
    _, examined = StartedRanks().warm(adapter)
    four = with_decoder_layers(preset("qwen3.6-35b-a3b").published, 4)
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"), scale=Scale.REAL, dimensions=four)
    lacking = []
    for free["gpu"] in (int((gigabytes - 0.01) * GB), int((gigabytes + 0.01) * GB)):
        where = (parallel, Device.CUDA, None, Path("report.json"), [Stage.STREAM])
        lacking.append(bool(lack_of_room({"slice": spec}, *where, examined.built_twice)))
    assert lacking == [True, False]


@pytest.mark.parametrize(
    ("name", "device", "what", "told"),
    [
        ("qwen3.6-35b-a3b", Device.CUDA, "gpu", "140.1 GB of a GPU's memory"),
        ("qwen3.6-27b", Device.CPU, "memory", "105.2 GB of memory"),
    ],
)
def test_run_is_refused_once_the_adapter_is_known(
    free: dict[str, int], name: str, device: Device, what: str, told: str
) -> None:
    free[what] = 100 * GB
    request = Request(
        generated={name: CheckpointSpec(preset(name), scale=Scale.REAL)},
        parallels=[Parallel()],
        adapter="any",
        device=device,
        report_path=Path("report.json"),
    )
    assert request.earlier(None) is None
    twice = Examined(built_twice=(Block.DECODER, Block.VISION))
    with pytest.raises(CannotRunError, match=f"needs {told}"), request.plan(twice, None):
        pass


@pytest.mark.parametrize(
    ("stages", "refused"),
    [
        ([], True),
        ([Stage.SAVED], True),
        ([Stage.STREAM, Stage.FILES], True),
        ([Stage.RETRAINED], True),
        ([Stage.NATIVE, Stage.STREAM], False),
    ],
    ids=str,
)
def test_disk_is_asked_for_if_a_stage_saves(free: dict[str, int], stages: list[Stage], refused: bool) -> None:
    free["disk"] = 68 * GB
    request = Request(
        generated={"q36": CheckpointSpec(preset("qwen3.6-35b-a3b"), scale=Scale.REAL)},
        parallels=[Parallel()],
        stages=stages,
        adapter="any",
        report_path=Path("report.json"),
    )
    lacks = []
    with suppress(CannotRunError), request.plan(Examined(), None):
        lacks.append("nothing")
    assert bool(lacks) is not refused


def test_text_only_model_is_built_once() -> None:
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"), text_only=True)
    assert need_of(spec, Parallel(), [*Block]) == need_of(spec, Parallel())


def test_of_the_grid_that_which_fits_is_taken(free: dict[str, int]) -> None:
    free["memory"] = 150 * GB
    specs = {"q36": CheckpointSpec(preset("qwen3.6-35b-a3b"), scale=Scale.REAL)}
    path = Path("report.json")
    lacking = [bool(lack_of_room(specs, parallel, Device.CPU, None, path, CHECKS)) for parallel in GRID]
    assert lacking == [False] + [True] * (len(GRID) - 1)

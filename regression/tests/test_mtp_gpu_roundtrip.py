"""The job of a GPU runner: the CPU's report first, then the GPU's, which must be the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from read_noxfile import read_noxfile

from mtp_regression.maintenance import gpu_roundtrip
from mtp_regression.ranks.devices import Device

KIT = Path(__file__).parents[2]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What `mtpkit roundtrip` is told; nothing runs."""
    told: list[list[str]] = []

    def note(*words: str) -> int:
        told.append(list(words))
        return 0

    monkeypatch.setattr(gpu_roundtrip, "_roundtrip", note)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return told


def test_another_verdict_than_the_cpus_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tmp_path / "gpu_roundtrip" / "cpu.json"
    run = gpu_roundtrip._roundtrip

    def run_and_change(*words: str) -> int:
        code = run(*words)
        if str(known) == words[-1]:
            report = json.loads(known.read_text())
            report["records"][0]["verdict"] = "wrong"
            known.write_text(json.dumps(report))
        return code

    monkeypatch.setattr(gpu_roundtrip, "_roundtrip", run_and_change)
    words = ["--parallel", "tp1", "--adapter", "in-memory"]
    assert gpu_roundtrip.main(words, device=Device.CPU, folder=tmp_path) == 1
    report = json.loads((tmp_path / "gpu_roundtrip.json").read_text())
    assert all(record["passed"] for record in report["records"])
    assert report["differences"] == ["qwen3.5-35b-a3b, tp1, native: verdict exact, there wrong"]


def test_the_gpus_get_all_words_and_the_cpu_its_own_device(runs: list[list[str]], tmp_path: Path) -> None:
    assert gpu_roundtrip.main(["--device", "cuda-shared", "--parallel", "ep2"], folder=tmp_path) == 0
    known = str(tmp_path / "gpu_roundtrip" / "cpu.json")
    on_cpu, on_gpu = runs
    assert on_cpu[-4:] == ["--device", "cpu", "--report", known]
    assert on_gpu[on_gpu.index("--compare") + 1] == known
    assert on_gpu[-4:] == ["--device", "cuda-shared", "--parallel", "ep2"]


@pytest.mark.parametrize(
    "words", [["--compare", "cpu.json"], ["--compare=cpu.json"], ["--scale", "real"], ["--scale=real"]]
)
def test_a_report_that_is_there_and_published_dimensions_need_no_run_on_the_cpu(
    runs: list[list[str]], words: list[str]
) -> None:
    assert gpu_roundtrip.main(words) == 0
    (on_gpu,) = runs
    assert on_gpu[:2] == ["--device", "cuda"]
    assert on_gpu[-len(words) :] == words
    assert sum(word.startswith("--compare") for word in on_gpu) == words[0].startswith("--compare")


@pytest.mark.parametrize(("codes", "expected"), [((0, 1), 1), ((1, 0), 1), ((2,), 2), ((1, 2), 2)])
def test_the_gravest_exit_code_counts(
    runs: list[list[str]], monkeypatch: pytest.MonkeyPatch, codes: tuple[int, ...], expected: int
) -> None:
    left = iter(codes)
    monkeypatch.setattr(gpu_roundtrip, "_roundtrip", lambda *_: next(left))
    assert gpu_roundtrip.main([]) == expected
    assert list(left) == []
    assert runs == []


def test_without_a_gpu_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_roundtrip.main([]) == 2, "these tests are for a machine without one"
    assert "needs a GPU that torch can use; `mtpkit doctor`" in capsys.readouterr().err


class SessionError(Exception):
    """What nox raises when a session cannot go on."""


class Session:
    """As much of nox's session as the one on GPUs uses; commands are noted, not run."""

    def __init__(self, venv_backend: str) -> None:
        self.venv_backend = venv_backend
        self.posargs = ["--parallel", "tp1"]
        self.env: dict[str, str] = {}
        self.installed: list[tuple[str, ...]] = []
        self.commands: list[tuple[str, ...]] = []

    def install(self, *words: str, **_options: Any) -> None:
        self.installed.append(words)

    def run(self, *words: str, **_options: Any) -> str:
        self.commands.append(words)
        return ""

    def error(self, message: str) -> None:
        raise SessionError(message)


@pytest.fixture
def session_on_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[Session], None]:
    """The function of the session `gpu_roundtrip`, with as much of nox as its file needs to be read."""

    def keep(*_words: Any, **_options: Any) -> Callable[[Any], Any]:
        return lambda function: function

    project = SimpleNamespace(load_toml=lambda _: {}, python_versions=lambda _: ["3.11", "3.12"])
    stand_in = ModuleType("nox")
    vars(stand_in).update(
        session=keep, parametrize=keep, options=SimpleNamespace(), project=project, Session=Session
    )
    monkeypatch.chdir(KIT)
    function: Callable[[Session], None] = read_noxfile(stand_in)["gpu_roundtrip"]
    return function


JOB = ("python", "-m", "mtp_regression.maintenance", "gpu-roundtrip", "--parallel", "tp1")


def test_in_an_environment_that_is_there_nothing_is_installed(
    session_on_gpus: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/before")
    session = Session("none")
    session_on_gpus(session)
    assert session.installed == []
    assert session.commands == [JOB]
    packages = [str(KIT / folder) for folder in ("fixtures", "bridge_patch", "regression")]
    assert session.env["PYTHONPATH"].split(os.pathsep) == [*packages, "/before"]
    assert session.env["HF_HUB_OFFLINE"] == "1"


def test_an_environment_of_its_own_needs_gpu_and_toolkit(
    session_on_gpus: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = session_on_gpus.__globals__
    with pytest.raises(SessionError, match="needs a GPU with its driver"):
        session_on_gpus(Session("uv"))
    monkeypatch.setitem(names, "gpus", lambda: ["GPU 0"])
    monkeypatch.setitem(names, "cuda_toolkit", lambda: None)
    with pytest.raises(SessionError, match="CUDA 13 toolkit"):
        session_on_gpus(Session("uv"))
    monkeypatch.setitem(names, "cuda_toolkit", lambda: Path("/cuda"))
    session = Session("uv")
    session_on_gpus(session)
    assert [words[-1] for words in session.installed] == [
        "-rrequirements/megatron-bridge-0.6.2.txt",
        ".",
        str(KIT / "requirements" / "transformer-engine.txt"),
    ]
    assert session.commands[-1] == JOB

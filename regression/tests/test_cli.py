"""`mtpkit roundtrip` as a user types it, where it cannot run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.roundtrip.plan import named

SCENARIO = "mtp_regression.scenarios.scenario"


def mtpkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtp_regression", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_roundtrip_without_torch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("mtp_regression.roundtrip.request", "mtp_regression.roundtrip.run"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delattr(module, raising=False)
    result = CliRunner().invoke(app, ["roundtrip"])
    assert result.exit_code == 2
    assert "CONTRIBUTING.md" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parallel", "tp3 ranks4"], "4 ranks cannot hold"),
        (["--device", "cuda"], "needs a GPU, and there is none; run it with --device cpu"),
        (["--adapter", "mtp_regression.absent:Bridge"], "No module named 'mtp_regression.absent'"),
        (["FOLDER"], "no safetensors file"),
        (["--parallel", "ep2", "--parallel", "ep2"], "parallel layout given twice: ep2"),
        (["FOLDER", "FOLDER/../FOLDER"], "checkpoint given twice: "),
        (["--adapter", "my:Bridge", "--patched"], "--adapter: has no effect with --patched"),
        (["--adapter", SCENARIO], "an adapter is named package.module:Class"),
        (["--adapter", f"{SCENARIO}:Scenaro"], f"{SCENARIO} has no class Scenaro"),
        (["--adapter", f"{SCENARIO}:Scenario"], "is no adapter; it has no build, load, parameters"),
    ],
)
def test_roundtrip_that_cannot_run_says_why(arguments: list[str], message: str, tmp_path: Path) -> None:
    arguments = [argument.replace("FOLDER/../FOLDER", f"FOLDER/../{tmp_path.name}") for argument in arguments]
    arguments = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    done = mtpkit("roundtrip", *arguments, "--report", tmp_path / "report.json")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("command", [["mtpkit"], [sys.executable, "-m", "mtp_regression"]])
def test_adapter_is_found_in_the_working_folder(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "my_bridge.py").write_text("class Bridge: pass")
    script = [str(Path(sys.executable).with_name("mtpkit"))] if command == ["mtpkit"] else command
    words = [*script, "roundtrip", "--adapter", "my_bridge:Bridge"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "my_bridge:Bridge is no adapter; it has no build, load, parametersstream, save, " in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parallel", "tp1", "--adapter", "my_bridge:Bridge"], "No module named 'my_bridge'"),
    ],
)
def test_rank_of_torchrun_that_cannot_run_says_why(options: list[str], message: str, tmp_path: Path) -> None:
    world = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    command = [sys.executable, "-m", "mtp_regression", "roundtrip", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | world, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_checkpoints_of_one_name_are_told_apart() -> None:
    folders = [Path("/x/a/out"), Path("/x/b/out"), Path("/y/other")]
    assert list(named(folders)) == ["a/out", "b/out", "y/other"]
    assert list(named(folders[1:])) == ["out", "other"]
    assert list(named([Path("/out"), Path("/a/out")])) == ["out", "a/out"]

"""`mtpkit roundtrip` as a user types it, where it cannot run."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app


def mtpkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtp_regression", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_roundtrip_without_torch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mtp_regression.roundtrip.run", raising=False)
    monkeypatch.delattr("mtp_regression.roundtrip.run", raising=False)
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
    ],
)
def test_roundtrip_that_cannot_run_says_why(arguments: list[str], message: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path) if argument == "FOLDER" else argument for argument in arguments]
    done = mtpkit("roundtrip", *arguments, "--report", tmp_path / "report.json")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "report.json").exists()

"""`mtpkit` as a user types it: what it prints, its exit codes, and how fast it answers."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_bridge_patch import ExpertLayout, mtp_expert_layout
from mtp_regression.cli import app
from mtp_regression.tensors import read_folder


def mtpkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtp_regression", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_generate_help_answers_at_once() -> None:
    """Half a second, so nothing heavy is imported; the best of three, since machines are busy."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert "--mtp-experts" in mtpkit("generate", "--help").stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("layout", list(ExpertLayout))
def test_generate_mtp_layout(layout: ExpertLayout, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = CliRunner().invoke(
        app,
        ["generate", "qwen3.6-35b-a3b", str(folder), "--mtp-experts", layout, "--json"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    tensors = read_folder(folder)
    assert mtp_expert_layout(tensors) is layout
    size = sum(tensor.data.size for tensor in tensors.values())
    assert json.loads(result.stdout) == {"folder": str(folder), "tensors": len(tensors), "bytes": size}


def test_generate_seed_and_values_change_bytes(tmp_path: Path) -> None:
    variants = ((), ("--seed", "1"), ("--values", "rounding"))
    folders = [tmp_path / str(number) for number in range(len(variants))]
    for folder, options in zip(folders, variants, strict=True):
        assert CliRunner().invoke(app, ["generate", "qwen3.6-35b-a3b", str(folder), *options]).exit_code == 0
    plain, seeded, rounding = map(read_folder, folders)
    changed = {name for name in plain if plain[name].data.tobytes() != rounding[name].data.tobytes()}
    assert changed == {f"model.language_model.layers.{layer}.linear_attn.norm.weight" for layer in range(3)}
    assert all(plain[name].data.tobytes() != seeded[name].data.tobytes() for name in plain)


def test_generate_refuses_unknown_preset_and_full_folder(tmp_path: Path) -> None:
    unknown = CliRunner().invoke(app, ["generate", "qwen9", str(tmp_path / "out")])
    assert unknown.exit_code == 2
    assert "qwen3.5-35b-a3b" in unknown.stderr
    (tmp_path / "file").touch()
    full = CliRunner().invoke(app, ["generate", "qwen3.6-35b-a3b", str(tmp_path)])
    assert full.exit_code == 2
    assert "not empty" in full.stderr


def test_roundtrip_without_torch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mtp_regression.run", raising=False)
    monkeypatch.delattr("mtp_regression.run", raising=False)
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

"""`mtpkit doctor` in an environment that has all, and in ones that lack something."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.megatron import environment as doctor


def test_everything_for_the_cpu_is_here() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0
    for package in ("torch", "megatron-core", "megatron-bridge", "transformers"):
        assert found[package]["found"] == metadata.version(package)
    assert found["import of the bridge"]["found"].endswith("modules from TransformerEngine stand-in")
    assert found["GPUs"]["missing"] is True, "these tests are for a machine without one"


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_IMPORT", "import no_such_bridge")
    monkeypatch.setattr(doctor, "_release", lambda package: "" if package == "megatron-bridge" else "1.0")
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 1
    assert "adapter (ModuleNotFoundError: No module named 'no_such_bridge')" in result.stdout
    assert result.stdout.count(doctor.PINNED) == 1


def test_a_clone_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.kit_release() == metadata.version("mtp-bridge-kit")
    monkeypatch.setattr(doctor, "_release", lambda _: "")
    assert doctor.kit_release() == f"{metadata.version('mtp-bridge-kit')}, not installed"
    module = tmp_path / "a" / "b" / "c" / "environment.py"
    monkeypatch.setattr(doctor, "__file__", str(module))
    assert doctor.kit_release() == "of unknown release, not installed"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "9"\n')
    assert doctor.kit_release() == "of unknown release, not installed"


def test_a_command_that_lacks_what_it_is_made_with_says_what(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text('raise ModuleNotFoundError("No module named \'typer\'", name="typer")')
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "mtp_regression", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = "mtpkit: No module named 'typer'; `python3 -m pip install typer` brings it\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)


def test_without_torch_nothing_is_imported_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_release", lambda _: "")
    monkeypatch.setattr(doctor, "_IMPORT", "raise SystemExit(3)")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["torch"].missing
    assert "GPUs" not in found
    assert "exit code 3" in found["import of the bridge"].needed_by

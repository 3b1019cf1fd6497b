"""`mtpkit doctor` in an environment that has all, and in ones that lack something."""

import json
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


def test_without_torch_nothing_is_imported_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_release", lambda _: "")
    monkeypatch.setattr(doctor, "_IMPORT", "raise SystemExit(3)")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["torch"].missing
    assert "GPUs" not in found
    assert "exit code 3" in found["import of the bridge"].needed_by

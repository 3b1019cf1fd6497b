"""``python -m mtp_bridge_patch`` runs a script as Python does, patched."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mtp_bridge_patch
import mtp_checkpoint

from .fix_ids import IDS

APPLIED = f"mtp_bridge_patch: megatron-bridge 0.4.2: {' applied; '.join(IDS)} applied\n"
REPORT = """
import json, sys
from pathlib import Path
import helper
from megatron.bridge.models.qwen_vl.qwen35_vl_bridge import Qwen35VLMoEBridge
print(json.dumps({
    "name": __name__,
    "file": str(Path(__file__).resolve()),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "argv": sys.argv,
    "path": sys.path,
    "helper": helper.__file__,
    "patched": hasattr(Qwen35VLMoEBridge.mapping_registry, "__wrapped__"),
}))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working folder with a script in a subfolder, and a package with a module to run."""
    for place in (tmp_path / "scripts", tmp_path / "package"):
        place.mkdir()
        (place / "report.py").write_text(REPORT)
        (place / "helper.py").touch()
    (tmp_path / "helper.py").touch()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(REPORT)
    (tmp_path / "exits.py").write_text("raise SystemExit(7)")
    return tmp_path


@pytest.fixture
def python(install_release: Callable[[str], Path], folder: Path) -> Run:
    """Return a function that runs Python in the folder with a release of Megatron-Bridge installed."""

    def run(*arguments: str, release: str = "0.4.2", **environment: str) -> subprocess.CompletedProcess[str]:
        site = install_release(release)
        packages = (mtp_bridge_patch, mtp_checkpoint)
        paths = os.pathsep.join(
            [str(site), *(str(Path(str(package.__file__)).parents[1]) for package in packages)]
        )
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "command",
    [
        ("scripts/report.py",),
        ("scripts/report.py", "--flag", "-m", "a b"),
        ("./scripts/../scripts/report.py", "x"),
        ("-m", "package.report", "--flag", "x"),
        ("-m", "package", "-h"),
    ],
)
def test_mtp_script_sees_what_it_would_see_directly(python: Run, command: tuple[str, ...]) -> None:
    direct = python(*command)
    through = python("-m", "mtp_bridge_patch", *command)
    assert direct.returncode == 0, direct.stderr
    assert through.returncode == 0, through.stderr
    assert json.loads(direct.stdout) == {**json.loads(through.stdout), "patched": False}
    assert json.loads(through.stdout)["patched"] is True
    assert through.stderr == APPLIED


def test_linked_script(python: Run, folder: Path) -> None:
    (folder / "linked.py").symlink_to("scripts/report.py")
    direct, through = python("linked.py"), python("-m", "mtp_bridge_patch", "linked.py")
    assert json.loads(direct.stdout)["path"] == json.loads(through.stdout)["path"]


def test_safe_path_is_respected(python: Run, folder: Path) -> None:
    environment = {"PYTHONSAFEPATH": "1"}
    (folder / "path.py").write_text("import sys; print(sys.path)")
    direct = python("path.py", **environment)
    through = python("-m", "mtp_bridge_patch", "path.py", **environment)
    assert direct.stdout == through.stdout != ""


def test_exit_status_is_the_scripts(python: Run) -> None:
    assert python("-m", "mtp_bridge_patch", "exits.py").returncode == 7


def test_only_rank_0_speaks(python: Run) -> None:
    assert python("-m", "mtp_bridge_patch", "scripts/report.py", RANK="0").stderr == APPLIED
    assert python("-m", "mtp_bridge_patch", "scripts/report.py", RANK="1").stderr == ""


@pytest.mark.parametrize("command", [(), ("-m",), ("-c", "pass"), ("-m", "-x")])
def test_usage_without_anything_to_run(python: Run, command: tuple[str, ...]) -> None:
    run = python("-m", "mtp_bridge_patch", *command)
    assert run.returncode == 2
    assert run.stderr == "usage: python -m mtp_bridge_patch (script.py | -m module) [args ...]\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(python: Run, option: str) -> None:
    run = python("-m", "mtp_bridge_patch", option)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("usage: ")


def test_release_that_is_not_patched(python: Run) -> None:
    run = python("-m", "mtp_bridge_patch", "scripts/report.py", release="0.5.2")
    assert json.loads(run.stdout)["patched"] is False
    assert "expert-numbers not needed: fixed upstream since 0.5.0" in run.stderr
    assert "applied" not in run.stderr


def test_unknown_release_runs_nothing(python: Run) -> None:
    run = python("-m", "mtp_bridge_patch", "scripts/report.py", release="0.3.1")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("mtp_bridge_patch: megatron-bridge 0.3.1 is not a known release")

"""`mtpkit roundtrip` as a user types it, where it cannot run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtp_regression.roundtrip.plan import named

SCENARIO = "mtp_regression.scenarios.scenario"


def mtpkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtp_regression", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["roundtrip"], ["conformance", "megatron-bridge"]])
def test_without_torch_it_says_what_to_do(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("""raise ModuleNotFoundError("No module named 'torch'")""")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "mtp_regression", *words],
        env=os.environ | {"PYTHONPATH": path, "MTPKIT_SERVER": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "mtpkit: cannot import mtp_regression.adapters.megatron_bridge for the ranks: "
        "No module named 'torch'; install the environment of a bridge, as CONTRIBUTING.md shows\n"
    )


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
    assert "my_bridge:Bridge is no adapter; it has no build, load, parameters" in done.stderr


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


BRIDGES = """
from mtp_regression import StateDictBridge

class Right(StateDictBridge):
    bridge, framework = "right", "numpy"
    def to_native(self, tensors, checkpoint): return tensors
    def from_native(self, native): return native

class DeclaresNoCheck(Right):
    declared = {"packed-tp7::stream": "of another layout"}

class DeclaresWithoutReason(Right):
    declared = {"packed-tp1::stream": " "}

class NoLoad:
    bridge = "no-load"
    def build(self, checkpoint, parallel): ...
    def parameters(self): ...
    def save(self, folder): ...

class NoExport(NoLoad):
    def load(self, checkpoint): ...
    save = None

class NoName(NoLoad):
    bridge = None
    def load(self, checkpoint): ...
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_bridg:Right"], "cannot import my_bridg for the ranks: No module named 'my_bridg'"),
        (["my_bridge:Rihgt"], "my_bridge has no class Rihgt"),
        (["my_bridge"], "an adapter is named package.module:Class, or is one of "),
        (["my_bridge:NoLoad"], "my_bridge:NoLoad is no adapter; it has no load"),
        (["my_bridge:NoExport"], "my_bridge:NoExport is no adapter; it has neither stream nor save"),
        (["my_bridge:NoName"], "my_bridge:NoName is no adapter; it has no name, bridge"),
        (["my_bridge:Right", "--only", "paked-*"], "no check is called paked-*; there are per-expert-tp1::"),
        (["my_bridge:Right", "--only", "paked-*", "--list"], "no check is called paked-*; there are "),
        (["my_bridge:DeclaresNoCheck"], "no check is called packed-tp7::stream; there are "),
        (
            ["my_bridge:DeclaresWithoutReason"],
            "declared failures: the failure declared of packed-tp1::stream ",
        ),
        (["my_bridge:Right", "--declared", "absent.toml"], "declared failures: [Errno 2] No such file"),
        (["my_bridge:Right", "--declared", "typo.toml"], "declared failures: reasn: no field of a declared"),
        (["my_bridge:Right", "--declared", "empty.toml"], "declared failures: the failure declared of "),
        (["my_bridge:Right", "--declared", "nothing.toml"], "no check is called packed-*::steam; there are "),
    ],
)
def test_conformance_that_cannot_run_says_why_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "my_bridge.py").write_text(BRIDGES)
    for name, (checks, field, reason) in {
        "typo": ("packed-*::stream", "reasn", "known"),
        "empty": ("packed-*::stream", "reason", ""),
        "nothing": ("packed-*::steam", "reason", "known"),
    }.items():
        text = f'[[declared]]\nchecks = ["{checks}"]\n{field} = "{reason}"\n'
        (tmp_path / f"{name}.toml").write_text(text)
    command = [str(Path(sys.executable).with_name("mtpkit")), "conformance", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mtpkit: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "reports").exists()

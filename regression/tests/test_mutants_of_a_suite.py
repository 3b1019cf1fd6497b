"""`mtpkit mutants --suite`: the score of tests that somebody else has written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.comparison.tensors import read_folder
from mtp_regression.mutants import bridges
from mtp_regression.mutants.mutant import Changed
from mtp_regression.mutants.suite import Suite, SuiteError
from mtp_regression.mutants.table import MUTANTS

SCRIPT = f"{sys.executable} check.py"
LOAD = """
    from mtp_regression.mutants import bridge_under_test, mutated
    from mtp_regression.comparison.tensors import read_folder
    from mtp_regression.ranks.parallel import Parallel
    from mtp_regression.ranks.threads import run_threads
    from mtp_fixtures import CheckpointSpec, preset
    from pathlib import Path
    import sys, tempfile

    folder = Path(tempfile.mkdtemp()) / "checkpoint"
    CheckpointSpec(preset("qwen3.5-0.8b"), layer_types="LF").write(folder)

    def exported(rank):
        bridge = bridge_under_test()()
        bridge.world = rank
        bridge.build(folder, Parallel())
        bridge.load(folder)
        return dict(bridge.stream())

    [found] = run_threads(exported, size=1, time_limit=60)
    sys.exit(found.keys() != read_folder(folder).keys())
"""
"""Tests that compare names alone."""


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text("\n".join(line[4:] for line in text.splitlines()) + "\n")


def mtpkit(folder: Path, *words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "mtp_regression", "mutants", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_survivors_are_told_with_what_they_do(tmp_path: Path) -> None:
    write(tmp_path, "check.py", LOAD)
    code, out, _ = mtpkit(tmp_path, "mtp-dropped", "exports-fc-reversed", "--suite", SCRIPT)
    assert code == 1
    text = " ".join(out.split())
    assert "1 of 2 mutants noticed; of mtp_regression.in_memory.bridge:InMemoryBridge" in text
    assert "exports-fc-reversed" in text
    assert "mtp-dropped" not in text
    assert "Exports the rows of `mtp.fc`" in text
    code, out, _ = mtpkit(tmp_path, "mtp-dropped", "--suite", SCRIPT, "--json")
    assert code == 0
    assert json.loads(out)["mutants"] == [{"name": "mtp-dropped", "killed": True, "timed_out": False}]


CLASS = """
    from my_bridge import MyBridge
    from mtp_regression import BridgeConformance

    class TestMine(BridgeConformance):
        bridge = MyBridge
        only = ["packed-tp1::stream"]
"""
FIXTURE = """
    def test_in_memory(roundtrip, make_checkpoint):
        checkpoint = make_checkpoint("qwen3.5-0.8b", layer_types="LF")
        assert roundtrip("in-memory", checkpoint, stages=["stream"]).passed
"""
MY_BRIDGE = """
    from pathlib import Path
    from mtp_regression import StateDictBridge
    from mtp_regression.comparison.tensors import read_folder

    class MyBridge(StateDictBridge):
        bridge, framework = "mine", "numpy"

        def to_native(self, tensors, checkpoint):
            return tensors

        def from_native(self, native):
            return native
"""


PYTEST = f"{sys.executable} -m pytest -q -p no:cacheprovider test_mine.py"
NAMES = ("exports-fc-reversed", "gate-up-exchanged")


def test_a_class_of_the_suites_checks_is_judged_with_their_bridge(tmp_path: Path) -> None:
    write(tmp_path, "my_bridge.py", MY_BRIDGE)
    write(tmp_path, "test_mine.py", CLASS)
    code, out, err = mtpkit(tmp_path, *NAMES, "--suite", PYTEST)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "1 of 1 mutants noticed; of my_bridge:MyBridge",
        "1 others can only be made of the in-memory bridge",
    ]


def test_the_fixture_is_judged_with_the_bridge_in_memory(tmp_path: Path) -> None:
    write(tmp_path, "test_mine.py", FIXTURE)
    code, out, err = mtpkit(tmp_path, *NAMES, "--suite", PYTEST)
    assert (code, err) == (1, "")
    assert out.splitlines()[0].startswith("not noticed: gate-up-exchanged: Puts up's rows")
    assert out.splitlines()[-1] == "1 of 2 mutants noticed; of mtp_regression.in_memory.bridge:InMemoryBridge"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("assert False, 'no such thing'", "fails, with exit code 1, without any mutant"),
        ("", "asked for no bridge, so that no mutant can fail them"),
    ],
)
def test_tests_that_cannot_judge_end_with_a_sentence(tmp_path: Path, script: str, message: str) -> None:
    (tmp_path / "check.py").write_text(script)
    code, out, err = mtpkit(tmp_path, "--suite", SCRIPT)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert ("no such thing" in err) is bool(script)


def test_a_command_that_is_none() -> None:
    for command in ("no-such-program --at-all", ""):
        with pytest.raises(SuiteError, match="cannot run"):
            Suite.of(command)


def test_a_suite_that_hangs_is_ended_and_counts_as_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hang.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr("mtp_regression.mutants.suite._AT_LEAST", 0.5)
    suite = Suite((sys.executable, str(tmp_path / "hang.py")), 0.0, ("some:Bridge",), in_memory=True)
    [verdict] = suite.verdicts([MUTANTS["mtp-dropped"]])
    assert (verdict.killed, verdict.timed_out) == (True, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-such",), "no mutant is called no-such"),
        (("--list", "--suite", "x"), "has no effect with --list"),
    ],
)
def test_words_that_mean_nothing_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    code, _, err = mtpkit(tmp_path, *words)
    assert code == 2
    assert message in " ".join(err.split())


def test_list(tmp_path: Path) -> None:
    code, out, _ = mtpkit(tmp_path, "--list", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == [*MUTANTS]


class Saves:
    """Saves what it is given, as a bridge of somebody does."""

    world: Any = None

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def save(self, folder: Path) -> None:
        import shutil

        shutil.copytree(self.checkpoint, folder)


@pytest.mark.parametrize("sharded", [False, True])
def test_saved_folders_of_any_bridge_are_changed(sharded: bool, make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("qwen3.6-35b-a3b", **({"shard_limit": 2_000_000} if sharded else {}), copy=True)
    for name in ("exports-fc-reversed", "mtp-dropped", "packed-written-one-by-one"):
        change = MUTANTS[name].change
        assert isinstance(change, Changed)
        folder = tmp_path / name
        Saves(source).save(folder)
        bridges.rewrite(folder, change)
        tensors = {key: tensor.array() for key, tensor in read_folder(source).items()}
        wanted = dict(change.tensors(iter(tensors.items())))
        saved = read_folder(folder)
        assert saved.keys() == wanted.keys()
        assert all(saved[key].array().tobytes() == wanted[key].tobytes() for key in wanted)

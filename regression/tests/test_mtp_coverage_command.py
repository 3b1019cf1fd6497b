"""`mtpkit coverage` as a user types it: what it prints, what it refuses and why."""

import sys
from pathlib import Path

import pytest

from mtp_bridge_patch.releases import installed_release
from mtp_regression.commands import coverage as coverage_commands

from .coverage_command import run, tiny

pytestmark = pytest.mark.megatron


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


def test_another_release_is_said_to_be_installed() -> None:
    assert f"megatron-bridge 0.0.1 is asked for, and {installed_release()} is installed" in refused(
        "qwen3.6-35b-a3b", "--bridge", "0.0.1"
    )


def test_release_that_is_installed_is_accepted() -> None:
    assert tiny("qwen3.6-35b-a3b", "--bridge", installed_release())[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qwen4"], "'qwen4' is none of"),
        (["qwen3.6-35b-a3b", "--parallel", "vpp2"], "at least two pipeline stages"),
        (["qwen3.6-27b", "--mtp-experts", "packed"], "experts"),
        (["qwen3.6-35b-a3b", "--mtp-layers", "0", "--mtp-experts", "packed"], "--mtp-experts: has no effect"),
        (["qwen3.6-35b-a3b", "--scale", "tiny", "--parallel", "ep3"], "ep3"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_without_torch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mtp_regression.coverage.tasks", raising=False)
    assert "CONTRIBUTING.md" in refused("qwen3.6-35b-a3b", "--scale", "tiny")


def test_without_a_bridge_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage_commands, "installed_release", lambda: None)
    assert "CONTRIBUTING.md" in refused("qwen3.6-35b-a3b")


def test_person_sees_ranks_counts_and_verdict() -> None:
    output = run("qwen3.6-35b-a3b", "--scale", "tiny", "--parallel", "ep2").stdout
    assert output.startswith("qwen3.6-35b-a3b, MTP experts packed, ep2, megatron-bridge ")
    assert "rank 1 (tp0 pp0 ep1 etp0): " in output
    assert "covered: every key and every parameter once; " in output


def test_every_field_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")
    for name in tiny("qwen3.6-35b-a3b")[1]:
        assert f"`{name}`" in documented, name

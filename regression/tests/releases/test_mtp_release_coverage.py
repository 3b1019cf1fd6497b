"""Which MTP parameters a release leaves unfilled, at tiny scale; `nox -s coverage` has the published one."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app

pytestmark = pytest.mark.megatron

EXPERTS = "language_model.mtp.layers.0.mtp_model_layer.mlp.experts"


def coverage(preset_name: str, *options: str) -> tuple[int, dict[str, Any]]:
    command = ["coverage", preset_name, "--scale", "tiny", "--parallel", "ep2", *options, "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.stdout, result.stderr
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("options", [(), ("--patched",)], ids=["unpatched", "patched"])
def test_per_expert_mtp_is_covered(options: tuple[str, ...]) -> None:
    assert coverage("qwen3.5-35b-a3b", *options)[0] == 0


def test_packed_mtp_is_covered_patched() -> None:
    exit_code, found = coverage("qwen3.6-35b-a3b", "--patched")
    assert exit_code == 0, found


def test_packed_mtp_is_not_covered_by_the_releases_that_lack_it(release: str) -> None:
    exit_code, found = coverage("qwen3.6-35b-a3b")
    if not release.startswith("0.4."):
        assert exit_code == 0
        return
    assert exit_code == 1
    assert set(found["starved"]) == {f"{EXPERTS}.linear_fc{n}.weight{e}" for n in (1, 2) for e in range(8)}
    assert set(found["unused"]) == {
        f"mtp.layers.0.mlp.experts.{name}[{e}]" for name in ("gate_up_proj", "down_proj") for e in range(8)
    }
    assert (found["unmapped"], found["shared"], found["copies"]) == ([], {}, {})

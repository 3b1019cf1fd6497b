"""Runs the main job, as its command does, inside a test."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.ranks.fork_server import warm

Job = Callable[..., tuple[int, dict[str, Any]]]

EXPORTS = ("--stage=native", "--stage=stream", "--stage=saved")
"""What a mistake in the conversion itself shows in; the other stages are for mistakes of their own."""


@pytest.fixture(scope="session")
def megatron_server() -> None:
    """One fork server, which has imported all that any test with the mark `megatron` needs."""
    warm(
        [
            "mtp_regression.adapters.megatron_bridge",
            "saboteurs",
            "oracle_saboteurs",
            "declared_mtp",
            "narrowing",
        ]
    )


@pytest.fixture(autouse=True)
def _warm(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("megatron"):
        request.getfixturevalue("megatron_server")


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory, megatron_server: None) -> Job:
    """`mtpkit roundtrip ARGUMENTS...`; gives its exit code and its report."""
    del megatron_server

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        report = tmp_path_factory.mktemp("reports") / "roundtrip.json"
        words = ["roundtrip", *map(str, arguments), "--report", str(report)]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert report.exists(), result.output
        return result.exit_code, json.loads(report.read_text())

    return run

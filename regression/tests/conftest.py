"""Runs the main job, as its command does, inside a test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.ranks import run as ranks

Job = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """`mtpkit roundtrip ARGUMENTS...`; gives its exit code and its report.

    Adapters of this folder can be named by module. All tests of a process share one fork server, so
    tests that use it are kept on one xdist worker.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        ranks.warm(["mtp_regression.adapters.megatron_bridge", "saboteurs", "oracle_saboteurs"])

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        report = tmp_path_factory.mktemp("reports") / "roundtrip.json"
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(Path(__file__).parent)
            result = CliRunner().invoke(
                app, ["roundtrip", *map(str, arguments), "--report", str(report)], catch_exceptions=False
            )
        assert report.exists(), result.output
        return result.exit_code, json.loads(report.read_text())

    return run

"""Runs the main job, as its command does, inside a test."""

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mtp_regression import run_checks
from mtp_regression.commands.app import app
from mtp_regression.ranks.processes import fork_server
from mtp_regression.ranks.processes.fork_server import warm
from mtp_regression.server import client

from .warm_servers import place_of_servers

Job = Callable[..., tuple[int, dict[str, Any]]]
RunSuite = Callable[..., dict[str, dict[str, Any]]]

EXPORTS = ("--stage=native", "--stage=stream", "--stage=saved")
"""What a mistake in the conversion itself shows in; the other stages are for mistakes of their own."""


def pytest_configure(config: pytest.Config) -> None:
    """Have Megatron-Bridge imported once, for all workers of pytest-xdist and all commands that tests run.

    `MTPKIT_SERVER=0 pytest` has each import it.
    """
    if hasattr(config, "workerinput"):  # a worker inherits it
        return
    folder = tempfile.TemporaryDirectory(prefix="mtpkit-tests-")  # a short path, as sockets need
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_RUNTIME_DIR", folder.name)
    patch.setenv(client.SWITCH, os.environ.get(client.SWITCH, "10"))

    def end() -> None:
        for place, status in list(client.servers()):
            client.stop(place, status["pid"])
        patch.undo()
        folder.cleanup()

    config.add_cleanup(end)


@pytest.fixture(scope="module")
def own_fork_server() -> Iterator[None]:
    """This process's own fork server, without a warm one, as for most users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(client.SWITCH)
        patch.setattr(fork_server, "_preloaded", None)
        yield
        fork_server._preloaded = None


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for warm servers of a test's own."""
    with place_of_servers(monkeypatch) as place:
        yield place


@pytest.fixture(scope="session")
def megatron_server() -> None:
    """A fork server, which has imported all that any test with the mark `megatron` needs."""
    warm(
        [
            "mtp_regression.adapters.megatron_bridge",
            "saboteurs",
            "oracle_saboteurs",
            "declared_mtp",
            "narrowing",
        ]
    )


@pytest.fixture(scope="module")
def training_server(megatron_server: None) -> Iterator[None]:
    """A fork server that has also imported what Megatron's own checkpoints need; else 3 s of each rank."""
    del megatron_server
    usual = fork_server._preloaded or ()
    warm([*usual, "megatron.bridge.training.model_load_save"])
    yield
    fork_server._preloaded = None  # the next tests are to import that late, as users do
    warm(usual)


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


@pytest.fixture
def run_suite(tmp_path: Path) -> RunSuite:
    """Run checks of the suite on a bridge; gives the records by id, and keeps text and report."""

    def checks(adapter: str, *only: str, **options: Any) -> dict[str, dict[str, Any]]:
        text = io.StringIO()
        name = adapter if adapter == "in-memory" or ":" in adapter else f"in_memory_mistakes:{adapter}"
        report = run_checks(
            name,
            only=only,
            report_path=tmp_path / "report.json",
            console=Console(file=text, width=160),
            **options,
        )
        assert report is not None
        checks.text = text.getvalue()  # type: ignore[attr-defined]
        checks.report = report  # type: ignore[attr-defined]
        return {record["check"]: record for record in report["records"]}

    return checks

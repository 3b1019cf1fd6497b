"""The suite's pytest plugin: marks, the suite on a bridge, round trips, and functions run on ranks.

Loaded by the entry point where the kit is installed. It imports torch when a test asks for ranks, not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from mtp_regression.adapters import MEGATRON_BRIDGE
from mtp_regression.conformance.not_collected import NOT_COLLECTED

if TYPE_CHECKING:
    from mtp_regression.conformance.testing import RoundTrip

__all__ = ["OnRanks"]

MARKS = (
    "mtp: is about MTP",
    "megatron: needs Megatron-Bridge; a worker of pytest-xdist takes a whole module of these",
    "ranks(n): how many ranks `on_ranks` starts",
    "gpu: needs an NVIDIA GPU; left out unless asked for by -m",
    "xdist_group(name): tests of one name are run by one worker of pytest-xdist, if it is there",
)


class OnRanks(Protocol):
    """Runs a function on ranks; see `on_ranks`."""

    def __call__(
        self, function: Callable[..., Any], *args: Any, ranks: int = 0, time_limit: float = 120.0
    ) -> list[Any]:
        """Start the ranks, and return every rank's result."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names a bridge."""
    about = "run the suite on a bridge, package.module:Class, with no test file"
    parser.addoption("--mtp-bridge", metavar="BRIDGE", help=about)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; with a bridge, leave the tests that are in the folder alone unless asked for.

    The bridge may be a module of the working folder, which `pytest` has not on its path, other than
    `python -m pytest`.
    """
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    if not config.getoption("mtp_bridge"):
        return
    if config.args_source is not config.ArgsSource.ARGS:
        config.args = []  # the suite alone
    folder = str(config.invocation_params.dir)
    if {folder, ""}.isdisjoint(sys.path):
        sys.path.insert(0, folder)
        config.add_cleanup(lambda: sys.path.remove(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist could not collect."""
    told: list[str] = getattr(node, "workeroutput", {}).get("mtp_not_collected", [])
    if told:
        node.config.stash[NOT_COLLECTED] = told


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand that over, on a worker."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["mtp_not_collected"] = session.config.stash.get(NOT_COLLECTED, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say which checks a bridge could not be asked for."""
    if told := config.stash.get(NOT_COLLECTED, []):
        terminalreporter.section("roles that a bridge does not have")
        for line in told:
            terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the suite on the bridge that the option names; keep a module's tests of Megatron on one worker.

    Tests for a GPU are left out unless asked for.
    """
    if config.getoption("mtp_bridge"):  # not as an argument: then conftest files beside it would count
        suite = Path(__file__).parent / "conformance" / "any_bridge.py"
        items += session.genitems(pytest.Module.from_parent(session, path=suite))
    for item in items:
        if item.get_closest_marker("megatron"):
            item.add_marker(pytest.mark.xdist_group(f"megatron, {item.path.name}"))
    if "gpu" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def roundtrip(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., RoundTrip]:
    """Take a checkpoint through a bridge and back: `roundtrip(MyBridge, checkpoint, "tp2 ep2")`.

    The bridge is an adapter's class, which the ranks must be able to import, or its name; the layout is "tp1"
    unless another is given; `stages=["native"]` takes some, `time_limit=` is in seconds. What comes back has
    `passed`, `verdicts` by stage and `records`. What is not exact is a section of the report of a test that
    fails.
    """
    from mtp_regression.conformance.testing import taker

    return taker(request, tmp_path / "roundtrip")


@pytest.fixture
def on_ranks(request: pytest.FixtureRequest, tmp_path: Path) -> OnRanks:
    """Run a function on the CPU ranks of a new process group: `on_ranks(function, *args)`.

    The function must be one of an importable module. Every rank calls it as `function(world, *args)`; what it
    returns comes back, in rank order (`mtp_regression.ranks.run.run`). There are as many ranks as the call
    says (`ranks=n`), or the mark `ranks(n)`, or one. With the mark `megatron` they are forks of a process
    that has imported Megatron-Bridge.
    """
    from mtp_regression.ranks.run import run

    marked = request.node.get_closest_marker("ranks")
    bridge = request.node.get_closest_marker("megatron")

    def start(
        function: Callable[..., Any], *args: Any, ranks: int = 0, time_limit: float = 120.0
    ) -> list[Any]:
        return run(
            function,
            *args,
            world_size=ranks or (marked.args[0] if marked else 1),
            time_limit=time_limit,
            log_folder=tmp_path / "ranks",
            preload=[MEGATRON_BRIDGE.partition(":")[0]] if bridge else [],
        )

    return start

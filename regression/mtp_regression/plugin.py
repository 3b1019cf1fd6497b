"""The suite's pytest plugin: marks, and functions that a test has run on ranks.

Loaded by the entry point where the kit is installed. It imports torch when a test asks for ranks, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from mtp_regression.adapters import MEGATRON_BRIDGE

__all__ = ["OnRanks"]

MARKS = (
    "mtp: is about MTP",
    "megatron: needs Megatron-Bridge; a worker of pytest-xdist takes a whole module of these",
    "ranks(n): how many ranks `on_ranks` starts",
    "gpu: needs an NVIDIA GPU; left out unless asked for by -m",
)


class OnRanks(Protocol):
    """Runs a function on ranks; see `on_ranks`."""

    def __call__(
        self, function: Callable[..., Any], *args: Any, ranks: int = 0, time_limit: float = 120.0
    ) -> list[Any]:
        """Start the ranks, and return every rank's result."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a module's tests of Megatron on one worker, and leave those for a GPU out unless asked for."""
    for item in items:
        if item.get_closest_marker("megatron"):
            item.add_marker(pytest.mark.xdist_group(f"megatron, {item.path.name}"))
    if "gpu" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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

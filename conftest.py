"""What all tests share: tiny checkpoints, and a header that says what they run against."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mtp_fixtures.plugin import MakeCheckpoint

pytest_plugins = ["pytester"]

# An example may take as long as a busy machine needs.
settings.register_profile("kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kit")

# Nothing is to be looked up elsewhere; set before transformers is imported.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_report_header() -> str:
    """Say which releases the tests run against."""
    packages = ("megatron-bridge", "megatron-core", "torch", "transformers", "numpy")
    return "kit: " + ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@pytest.fixture(scope="session")
def checkpoints(make_checkpoint: MakeCheckpoint) -> dict[str, Path]:
    """A tiny checkpoint of each published layout, and one whose values a bridge must round, by name."""
    return {
        "qwen3.5-35b-a3b": make_checkpoint("qwen3.5-35b-a3b"),
        "qwen3.6-35b-a3b": make_checkpoint("qwen3.6-35b-a3b"),
        "qwen3.6-35b-a3b-rounding": make_checkpoint("qwen3.6-35b-a3b", value_range="rounding"),
    }


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests about MTP, which have it in their names: `-m mtp` takes what `-k mtp` does."""
    for item in items:
        if "mtp" in item.nodeid:
            item.add_marker("mtp")

"""What all tests share: tiny checkpoints, and a header that says what they run against."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from mtp_fixtures import CheckpointSpec, ValueRange, preset

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
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint of each published layout, and one whose values a bridge must round, by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    specs = {
        "qwen3.5-35b-a3b": CheckpointSpec(preset("qwen3.5-35b-a3b")),
        "qwen3.6-35b-a3b": CheckpointSpec(preset("qwen3.6-35b-a3b")),
        "qwen3.6-35b-a3b-rounding": CheckpointSpec(
            preset("qwen3.6-35b-a3b"), value_range=ValueRange.ROUNDING
        ),
    }
    return {name: spec.write(folder / name) for name, spec in specs.items()}

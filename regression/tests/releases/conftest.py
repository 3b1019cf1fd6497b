"""Tests of what one release of Megatron-Bridge does; run with each release, by `nox -s tests-RELEASE`."""

from importlib import metadata
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.amber import AmberSnapshotExtension
from syrupy.location import PyTestLocation


@pytest.fixture(scope="session")
def release() -> str:
    """The installed release; without one the tests fail."""
    return metadata.version("megatron-bridge")


class _ByRelease(AmberSnapshotExtension):
    """Keeps every release's snapshots in a folder of its own, out of `__snapshots__`.

    Below that folder, the snapshots of the other releases would count as unused.
    """

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        return str(Path(test_location.filepath).parent / "snapshots" / metadata.version("megatron-bridge"))


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Snapshots of the installed release."""
    return snapshot.use_extension(_ByRelease)

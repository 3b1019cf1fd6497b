"""Temporary folders: those of a process that was killed are removed by the next, and no others."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtp_regression.ranks.scratch import own, remove_abandoned, scratch

HOLDS = """
import sys, time
from mtp_regression.ranks.scratch import scratch
with scratch("ranks-") as folder:
    (folder / "store").write_text("of a rank")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process, and the folder that it holds."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_folder_is_there_and_goes(temporary: Path) -> None:
    with scratch("ranks-") as folder:
        assert folder.parent == temporary
        (folder / "below").mkdir()
    assert list(temporary.iterdir()) == []


def test_folder_of_a_killed_process_is_removed(
    other: tuple[subprocess.Popen[str], Path], temporary: Path
) -> None:
    process, held = other
    with scratch("mtp-roundtrip-"):
        assert (held / "store").exists(), "its process lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with scratch("mtp-roundtrip-") as folder:
        assert list(temporary.iterdir()) == [folder]


def test_own_and_unmarked_folders_stay(temporary: Path) -> None:
    theirs = temporary / "pymp-of-another-program"
    theirs.mkdir()
    marked = temporary / "elsewhere"
    marked.mkdir()
    os.close(own(marked))
    with scratch("ranks-") as one, scratch("ranks-") as two:
        remove_abandoned()
        assert {*temporary.iterdir()} == {theirs, marked, one, two}

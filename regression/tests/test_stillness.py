"""Whether processes do anything is seen from outside, of all that a rank has started."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtp_regression.ranks.processes import stillness
from mtp_regression.ranks.processes.stillness import Stillness

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
COMPUTE = "print('ready', flush=True)\nwhile True: pass"
THREAD = f"import threading\nthreading.Thread(target=lambda: exec({COMPUTE!r})).start()"
PROCESS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTE!r}])"
SHORT = """
import subprocess, time
print('ready', flush=True)
while True: subprocess.run(['sleep', '0.3'])
"""


@contextmanager
def group(source: str) -> Iterator[int]:
    words = [sys.executable, "-c", source]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)


def still(*leaders: int) -> float:
    watched = Stillness(leaders)
    for _ in range(4):
        found = watched.seconds()
        time.sleep(0.4)
    return found


def test_processes_that_sleep_are_still() -> None:
    with group(SLEEP) as one, group(SLEEP) as other:
        assert still(one, other) > 0.8


@pytest.mark.parametrize("source", [COMPUTE, THREAD, PROCESS, SHORT])
def test_a_thread_or_process_that_computes_or_is_new_is_not(source: str) -> None:
    with group(SLEEP) as one, group(source) as other:
        assert still(one, other) < 0.1


def test_a_thread_that_waits_for_a_disk_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with group(SLEEP) as one:
        monkeypatch.setattr(stillness, "_state", lambda _: ["D", "1", str(one)])
        assert still(one) < 0.1


def test_a_kernel_that_does_not_count_shows_no_stillness(monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text
    zeros = {"schedstat": "0 0 0\n"}
    monkeypatch.setattr(Path, "read_text", lambda path: zeros.get(path.name) or read_text(path))
    with group(SLEEP) as one:
        assert still(one) < 0.1


def test_where_nothing_is_seen_nothing_is_still() -> None:
    assert still() < 0.1

"""Whatever `mtpkit mutants` has started ends with it, even if it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import alive

KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
WORKERS = f"""
import multiprocessing, os, signal
from mtp_regression.mutants.run import results
from mtp_regression.mutants.table import MUTANTS

if __name__ == "__main__":
    running = results([MUTANTS["mtp-dropped"]])
    next(running)  # its workers wait for more
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    {KILLED}
"""
TESTS = f"""
import os, signal, sys, threading, time
from pathlib import Path
from mtp_regression.mutants.suite import Suite
from mtp_regression.mutants.table import MUTANTS

asleep = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(60)"
suite = Suite([sys.executable, "-c", asleep], 1.0, [], in_memory=True)
threading.Thread(target=lambda: list(suite.verdicts([MUTANTS["mtp-dropped"]]))).start()
while not (Path("pid").exists() and Path("pid").read_text()):
    time.sleep(0.01)
print(Path("pid").read_text(), flush=True)
{KILLED}
"""


@pytest.mark.parametrize("script", [WORKERS, TESTS], ids=["workers", "tests"])
def test_what_was_started_ends_with_a_killed_command(script: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    with (tmp_path / "printed").open("w") as printed:  # of a pipe, what is left would have an end as well
        done = subprocess.run(command, cwd=tmp_path, stdout=printed, check=False)
    assert done.returncode == -signal.SIGKILL
    started = [int(word) for word in (tmp_path / "printed").read_text().split()]
    assert started
    deadline = time.monotonic() + 30
    while (left := [pid for pid in started if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left

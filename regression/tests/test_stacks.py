"""Stacks of hung ranks: read when they are whole, however slowly a process writes them."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtp_regression.ranks.processes import stacks

SLOW = """
import ctypes, os, signal, sys, threading, time

out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)

def dump(number):
    os.write(out, b'Thread 0x1 (most recent call first):\\n  File "of/a/thread.py", line 1 in f\\n')
    time.sleep(0.5)
    os.write(out, b'Current thread 0x2 (most recent call first):\\n'
             b'  File "torch/distributed/distributed_c10d.py", line 1 in all_reduce\\n')

def helper():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # as threads of libraries do
    blocked.set()
    time.sleep(60)

blocked = threading.Event()
threading.Thread(target=helper, daemon=True).start()
blocked.wait()
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(dump)  # of the kernel, as faulthandler's is, and not of Python
ctypes.CDLL(None).signal(signal.SIGUSR1, handler)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def test_a_dump_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "stack"
    words = [sys.executable, "-c", SLOW, str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            found, again = (stacks.ask({3: (process.pid, file)}) for _ in range(2))
        finally:
            process.kill()
    assert stacks.waits(found[3])
    assert again == found  # the second dump alone


def test_a_process_that_has_gone_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_PATIENCE", 0.1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert stacks.ask({0: (process.pid, tmp_path / "stack")}) == {0: ""}
    assert not stacks.waits("")

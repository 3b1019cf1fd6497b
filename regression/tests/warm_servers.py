"""Warm servers in a place of their own, and commands that ask them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import LONG, alive

from mtp_regression.server.client import SWITCH, fork, servers, stop

MODULE = """
try:
    import heavy_extension
except ImportError:
    pass
"""

COMMAND = """
import json, os, sys
from mtp_regression.ranks.processes import fork_server
from mtp_regression.server import stable
stable._is_installed = lambda module: module == "heavy"
fork_server.warm([sys.argv[1]])
import facts
for _ in range(2):
    found = fork_server.call(facts.facts)
    print(json.dumps([fork_server.imported_by(), found]), flush=True)
    sys.stdin.readline()
"""

FACTS = """
import os, signal, sys
from pathlib import Path

def facts():
    return {
        "parent": os.getppid(),
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name != "MTP_PRELOAD"},
        "path": sys.path,
        "argv": sys.argv,
        "umask": [line for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line],
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": [str(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "open": sorted(
            link.readlink().as_posix().partition(":")[0].rpartition("/")[2]
            for link in Path("/proc/self/fd").iterdir()
            if link.is_symlink()
        ),
        "heavy": "heavy" in sys.modules,
        "main": sorted(vars(sys.modules["__main__"])),
    }
"""


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


@contextmanager
def place_of_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of servers' own, and of a module; its path is short, as a socket's has to be."""
    with tempfile.TemporaryDirectory(prefix="server-") as name:
        place = Path(name)
        for folder in ("run", "modules", "work"):
            (place / folder).mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "run"))
        monkeypatch.setenv(SWITCH, "10")
        monkeypatch.syspath_prepend(place / "modules")
        monkeypatch.chdir(place / "work")
        (place / "modules" / "heavy.py").write_text(MODULE)
        (place / "modules" / "facts.py").write_text(FACTS)
        yield place
        for server, status in list(servers()):
            stop(server, status["pid"])


def serve(minutes: float = 10.0, module: str = "heavy") -> int:
    """Let a server make a fork, which ends at once; give the server's process id."""
    log = Path(os.environ["XDG_RUNTIME_DIR"], "preload.log")
    log.touch()
    request = json.dumps({"modules": [], "path": sys.path, "log": str(log)})
    listening = Path(tempfile.mkdtemp(dir=log.parent), "listener")
    read, write = os.pipe()
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(listening))
        listener.listen()
        environment = os.environ | {"MTP_PRELOAD": request}
        pid = fork([module], environment, listener.fileno(), read, minutes)
    os.close(read)
    try:
        assert alive(pid)
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    finally:
        os.close(write)


class Command:
    """A process that asks for a fork server and calls a function in it, now and again when it is told to."""

    def __init__(self, place: Path, module: str = "heavy", **environment: str) -> None:
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, module],
            cwd=place / "work",
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.imported_by, self.facts = self.told()

    def told(self) -> tuple[str, dict[str, Any]]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return tuple(json.loads(line))

    def again(self) -> tuple[str, dict[str, Any]]:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.told()

    def end(self) -> str:
        """Let it end, and give its standard error."""
        _, error = self.process.communicate("\n", timeout=LONG)
        assert self.process.returncode == 0, error
        return error

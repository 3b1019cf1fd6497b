"""A warm server serves a caller for whom the import would have come to the same, and leaves nothing."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from processes import alive
from reports import but_seconds
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.server import client, identity, messages
from mtp_regression.server.client import SWITCH, NoServerError, fork, servers, stop

LONG = 60.0  # seconds, that even a busy machine does not need

MODULE = """
try:
    import heavy_extension
except ImportError:
    pass
"""

COMMAND = """
import json, os, sys
from mtp_regression.ranks.processes import fork_server
from mtp_regression.server import borrowed
borrowed._installed = lambda module: True
fork_server.warm(["heavy"])
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


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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

    def __init__(self, place: Path, **environment: str) -> None:
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
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


def test_one_server_serves_many_from_any_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = serve()
    (place / "work" / "other").mkdir()
    (place / "work" / "other" / "heavy").touch()  # as programs are called that lie in sys.path[0]
    (place / "work" / "notes.txt").touch()
    (place / "modules" / "another.py").touch()
    monkeypatch.chdir(place / "work" / "other")
    monkeypatch.syspath_prepend(place / "work" / "other")
    for name in ("OLDPWD", "SHLVL", "TERM", "COLUMNS", "PYTEST_CURRENT_TEST", "MTPKIT_MUTANT"):
        monkeypatch.setenv(name, "another")
    assert serve() == first
    ((_, status),) = servers()
    assert (status["pid"], status["bridge"], status["served"]) == (first, "heavy", 2)


def touch_module(place: Path, _: pytest.MonkeyPatch) -> None:
    os.utime(place / "modules" / "heavy.py", (1, 1))


def replace_module(place: Path, _: pytest.MonkeyPatch) -> None:
    module = place / "modules" / "heavy.py"
    shutil.copy2(module, place / "copy")
    (place / "copy").replace(module)


def remove_module(place: Path, _: pytest.MonkeyPatch) -> None:
    module = place / "modules" / "heavy.py"
    (place / "modules" / "heavy").mkdir()
    module.rename(place / "modules" / "heavy" / "__init__.py")


def add_what_was_not_there(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / "modules" / "heavy_extension.py").touch()


def add_it_as_a_package(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / "modules" / "heavy_extension").mkdir()


def add_metadata(place: Path, _: pytest.MonkeyPatch) -> None:
    (place / "modules" / "new-1.0.dist-info").mkdir()


def shadow_in_another_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "work" / "heavy.py").touch()
    monkeypatch.syspath_prepend(place / "work")


def search_in_another_order(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path[1:], sys.path[0]])


def set_a_variable(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAVY_OPTION", "1")


def be_another_user(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getresuid", lambda: (12, 12, 12))


def have_other_limits(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))


def have_one_processor(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {77})


def run_with_other_flags(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "interpreter_flags", lambda: ["-O"])


@pytest.mark.parametrize(
    ("change", "replaced"),
    [
        (touch_module, True),
        (replace_module, True),
        (remove_module, True),
        (add_what_was_not_there, True),
        (add_it_as_a_package, True),
        (add_metadata, True),
        (shadow_in_another_folder, True),
        (search_in_another_order, True),
        (set_a_variable, False),
        (be_another_user, False),
        (have_other_limits, False),
        (have_one_processor, False),
        (run_with_other_flags, False),
    ],
)
def test_another_caller_has_another_server(
    change: Callable[[Path, pytest.MonkeyPatch], None],
    replaced: bool,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = serve()
    change(place, monkeypatch)
    assert serve() != first
    if replaced:
        until(lambda: not alive(first))
    assert alive(first) != replaced


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("touch()", "heavy.py changed while it was imported"),
        ("with_name('new-2.0.dist-info').mkdir()", "packages were installed meanwhile"),
        ("with_name('new-1.0.dist-info').rmdir()", "packages were installed meanwhile"),
    ],
)
def test_what_changes_during_the_import_is_not_served(change: str, told: str, place: Path) -> None:
    source = f"from pathlib import Path; Path(__file__).{change}"
    if "rmdir" in change:
        (place / "modules" / "new-1.0.dist-info").mkdir()
    (place / "modules" / "heavy.py").write_text(source)
    with pytest.raises(NoServerError, match=r"see .*\.log"):
        serve()
    (log,) = (place / "run").rglob("*-*/*.log")
    assert told in log.read_text()


def test_an_import_that_starts_a_thread_is_not_served(place: Path) -> None:
    source = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    (place / "modules" / "heavy.py").write_text(source)
    with pytest.raises(NoServerError):
        serve()
    (log,) = (place / "run").rglob("*-*/*.log")
    assert "1 threads were started" in log.read_text()


@pytest.mark.usefixtures("place")
def test_those_who_start_at_once_share_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    locked, all_have_found_none = messages.locked, Barrier(4)

    def lock(folder: Path) -> AbstractContextManager[None]:
        all_have_found_none.wait(LONG)
        return locked(folder)

    monkeypatch.setattr(client, "locked", lock)
    with ThreadPoolExecutor(4) as threads:
        assert len({*threads.map(lambda _: serve(), range(4))}) == 1


def test_a_stale_socket_is_replaced(place: Path) -> None:
    first = serve()
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(first))
    assert len([*(place / "run").rglob("*.socket")]) == 1
    second = serve()
    assert alive(second)
    os.kill(second, signal.SIGKILL)
    until(lambda: not alive(second))
    assert not [*servers()]
    assert not [*(place / "run").rglob("*.socket")]


@pytest.mark.parametrize("how", ["idle", "SIGTERM", "socket", "replaced socket"])
def test_a_server_ends(how: str, place: Path) -> None:
    pid = serve(minutes=0.002 if how == "idle" else 10)
    (path,) = (place / "run").rglob("*.socket")
    if how == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    elif how == "socket":
        path.unlink()
    elif how == "replaced socket":
        path.rename(path.with_suffix(".old"))
        path.touch()
    until(lambda: not alive(pid))
    assert path.exists() == (how == "replaced socket")


def test_a_folder_of_others_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = client.folder()
    folder.chmod(0o755)
    with pytest.raises(NoServerError, match="not a folder of this user alone"):
        serve()
    folder.rmdir()
    (place / "run" / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(place / "run" / "elsewhere")
    with pytest.raises(NoServerError, match="not a folder of this user alone"):
        serve()
    folder.unlink()
    serve()
    monkeypatch.setattr(client, "peer", lambda _: os.getuid() + 1)
    with pytest.raises(NoServerError, match="another user's"):
        serve()


def test_a_fork_is_what_a_new_interpreter_is(place: Path) -> None:
    commands = [Command(place, **{SWITCH: minutes}) for minutes in ("", "10", "10")]
    for command in commands:
        assert command.end() == ""
    own, server, again = commands
    assert (own.imported_by, server.imported_by, again.imported_by) == ("command", "server", "server")
    for command in commands:
        del command.facts["parent"], command.facts["environment"][SWITCH]
    assert server.facts == own.facts
    assert again.facts == own.facts
    assert own.facts["heavy"]


def test_commands_go_on_without_the_server(place: Path) -> None:
    command = Command(place)
    ((_, status),) = servers()
    os.kill(status["pid"], signal.SIGKILL)
    until(lambda: not alive(status["pid"]))
    who, facts = command.again()
    assert (who, facts["parent"]) == ("server", command.facts["parent"])
    assert command.end() == ""


def test_a_command_whose_fork_is_gone_imports_by_itself(place: Path) -> None:
    command = Command(place)
    os.kill(command.facts["parent"], signal.SIGKILL)
    until(lambda: not alive(command.facts["parent"]))
    who, facts = command.again()
    assert who == "command"
    assert facts["heavy"]
    assert command.end() == ""


def test_a_command_whose_server_dies_imports_by_itself(place: Path) -> None:
    source = "import os, sys\nif 'mtp_regression.server.process' in sys.modules: os.kill(os.getpid(), 9)"
    (place / "modules" / "heavy.py").write_text(f"{MODULE}{source}")
    command = Command(place)
    assert command.imported_by == "command"
    assert command.facts["heavy"]
    error = command.end()
    assert error.startswith("mtpkit: no warm server: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_nothing_is_left_of_a_command(how: str, place: Path) -> None:
    command = Command(place)
    server_of_ranks = command.facts["parent"]
    ((_, status),) = servers()
    assert alive(server_of_ranks)
    children = Path(f"/proc/{status['pid']}/task/{status['pid']}/children")
    assert children.read_text().split() == [str(server_of_ranks)]
    if how == "killed":
        command.process.kill()
        command.process.communicate()
    else:
        command.end()
    until(lambda: not alive(server_of_ranks))
    until(lambda: not children.read_text())  # as a zombie it would be there
    inside = {link.readlink() for link in Path(f"/proc/{status['pid']}/fd").iterdir()}
    assert len([path for path in inside if path.name.startswith(("socket", "pipe", "anon"))]) == 1


def test_the_command_shows_and_ends_servers(place: Path) -> None:
    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["server", *words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert said() == "no warm server\n"
    pid = serve()
    line = said("status")
    assert line.startswith(f"{pid}: heavy, 0.")
    assert line.endswith(", served 1\n")
    assert 2**20 < json.loads(said("--json"))[0]["memory"] < 2**30
    assert said("stop") == f"ended: {line}"
    assert not alive(pid)
    assert said("stop") == "no warm server\n"
    assert not [*(place / "run").rglob("*.socket")]


def test_the_switch_is_a_number(place: Path) -> None:
    environment = os.environ | {SWITCH: "on", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "mtp_regression", "conformance", "in-memory", "--list"]
    done = subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"mtpkit: {SWITCH} is 'on', and not a number of minutes\n"


@pytest.mark.megatron
def test_verdicts_are_the_same_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one thing that may differ is who has imported, and seconds."""
    words = ("roundtrip", "--parallel", "ep2", "--report", "report.json", "--stage", "native")
    who, reports = [], []
    for minutes in ("0", "10"):
        monkeypatch.setenv(SWITCH, minutes)
        command = [sys.executable, "-m", "mtp_regression", *words, "--stage", "stream", "--stage", "saved"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads((tmp_path / "report.json").read_text())
        who.append((report.pop("imported_by"), "(warm server)" in done.stdout))
        assert report.pop("import_seconds") > 0
        reports.append(but_seconds(report))
    assert who == [("command", False), ("server", True)]
    assert len(reports[0]["records"]) == 6
    assert reports[0] == reports[1]

"""A warm server does what a new interpreter would, and leaves nothing."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import LONG, alive
from reports import but_seconds
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.server import client
from mtp_regression.server.client import SWITCH, NoServerError, servers

from .warm_servers import MODULE, Command, serve, until


def test_a_stale_socket_is_replaced(place: Path) -> None:
    first = serve()
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(first))
    assert len([*(place / "run").rglob("*.socket")]) == 1
    second = serve()
    assert alive(second)
    os.kill(second, signal.SIGKILL)
    until(lambda: not alive(second))
    until(lambda: not [*servers()] and not [*(place / "run").rglob("*.socket")])  # its fork may still listen


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


@pytest.mark.usefixtures("place")
def test_a_server_that_has_answered_at_once_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    send_fds = socket.send_fds

    def send_and_be_slow(connection: socket.socket, *told: Any) -> int:
        sent = send_fds(connection, *told)
        gone = select.poll()
        gone.register(connection, select.POLLRDHUP)
        assert gone.poll(1000 * LONG)
        return sent

    monkeypatch.setattr(socket, "send_fds", send_and_be_slow)
    serve()
    ((_, status),) = servers()
    assert status["served"] == 1


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
    assert re.fullmatch(rf"{pid}: heavy, \d+\.\d.*, served 1\n", line)
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

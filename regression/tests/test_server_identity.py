"""A warm server serves a caller for whom the import would have come to the same, and no other."""

import os
import resource
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier

import pytest
from processes import LONG, alive

from mtp_regression.server import client, identity, messages
from mtp_regression.server.client import NoServerError, servers

from .warm_servers import serve, until


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

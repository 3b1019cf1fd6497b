"""What is said when the modules that ranks need cannot be imported for them."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtp_regression.ranks.run import PreloadError, warm

pytestmark = pytest.mark.usefixtures("own_fork_server")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise LookupError('no expert')", "LookupError: no expert"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("import os; os.kill(os.getpid(), 11)", "Fatal Python error: Segmentation fault"),
    ],
)
def test_a_failed_preload_shows_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, shown: str
) -> None:
    (tmp_path / "broken.py").write_text(f"{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(PreloadError, match="cannot import broken") as caught:
            warm(["broken"])
        assert shown in str(caught.value)
        assert "broken.py" in str(caught.value)


def test_a_server_that_cannot_listen_says_why(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)  # a socket's path has 107 characters at most
    deep.mkdir()
    environment = os.environ | {"TMPDIR": str(deep), "MTPKIT_SERVER": "0"}
    script = "from mtp_regression.ranks.run import warm; warm(['json'])"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("cannot import json for the ranks: AF_UNIX path too long")


def test_an_interpreter_without_the_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    set_preload = multiprocessing.set_forkserver_preload
    monkeypatch.setattr(multiprocessing, "set_forkserver_preload", lambda _: set_preload(["no_such_module"]))
    with pytest.raises(PreloadError, match="a new interpreter cannot import mtp_regression"):
        warm(["json"])


def test_nothing_is_written_for_a_command_that_has_gone(tmp_path: Path) -> None:
    log = tmp_path / "preload.log"
    told = json.dumps({"modules": [], "path": sys.path, "log": str(log)})
    words = [sys.executable, "-c", "import mtp_regression.ranks.processes.preload"]
    done = subprocess.run(words, env=os.environ | {"MTP_PRELOAD": told}, capture_output=True, check=False)
    assert done.stderr.endswith(f"FileNotFoundError: [Errno 2] No such file or directory: '{log}'\n".encode())
    assert not log.exists()

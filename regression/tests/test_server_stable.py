"""A warm server imports what comes first anyway, and no module that somebody is writing."""

import os
import sys
from pathlib import Path

import pytest

from mtp_regression.server import stable
from mtp_regression.server.client import servers

from .warm_servers import Command


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import heavy", ["heavy"]),
        (
            '"""An adapter."""\nfrom __future__ import annotations\nimport json\nfrom heavy import name',
            ["heavy"],
        ),
        ("from mtp_regression.adapters.protocol import MayHave", ["mtp_regression.adapters.protocol"]),
        ("import heavy, os.path, mine\nimport pytest", ["heavy"]),
        ("import heavy, os.path\nimport pytest", ["heavy", "pytest"]),
        ("first = 1\nimport heavy", []),
        ("from . import mine\nimport heavy", []),
        ("import heavy\ndef", []),
    ],
)
def test_of_an_adapter_that_is_being_written_its_first_imports_are_served(
    source: str, wanted: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = stable._is_installed
    monkeypatch.setattr(stable, "_is_installed", lambda name: name == "heavy" or installed(name))
    (place / "work" / "adapter.py").write_text(source)
    monkeypatch.syspath_prepend(place / "work")
    assert stable.stable(["adapter"]) == wanted
    (place / "work" / "mine").mkdir()
    (place / "work" / "mine" / "__init__.py").write_text("import heavy")
    (place / "work" / "mine" / "adapter.py").write_text(source)
    assert stable.stable(["mine.adapter", "heavy"]) == list(dict.fromkeys(["heavy", *wanted]))


@pytest.mark.parametrize("name", ["numpy", "pytest.mark", "yaml"])
def test_what_is_installed_is_served(name: str) -> None:
    assert stable.stable([name, "numpy"]) == [name]


def test_an_adapter_that_is_being_written_is_imported_anew(place: Path) -> None:
    (place / "work" / "adapter.py").write_text("import heavy")
    environment = {"PYTHONPATH": os.pathsep.join([str(place / "work"), *sys.path])}
    first = Command(place, "adapter", **environment)
    assert first.imported_by == "server"
    assert first.facts["heavy"]
    ((_, status),) = servers()
    assert status["bridge"] == "heavy"
    (place / "work" / "adapter.py").write_text("import heavy\nraise LookupError('changed')")
    with pytest.raises(AssertionError, match="changed"):
        Command(place, "adapter", **environment)
    assert not first.end()

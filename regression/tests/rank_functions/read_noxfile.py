"""Reads noxfile.py as nox does, with a stand-in for nox, and leaves no module behind that has seen it."""

import runpy
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[3]


def read_noxfile(nox: ModuleType) -> dict[str, Any]:
    """Return the names of noxfile.py, run with `nox` in nox's place.

    Its own modules are imported anew, and forgotten: each holds the nox that it was imported with.
    """
    path = mock.patch.object(sys, "path", [*sys.path])
    before = _forget("nox", "requirements")
    sys.modules["nox"] = nox
    try:
        with path, chdir(ROOT):
            return runpy.run_path("noxfile.py", run_name="noxfile")
    finally:
        _forget("nox", "requirements")
        sys.modules.update(before)


def _forget(*tops: str) -> dict[str, ModuleType]:
    """Take modules out of `sys.modules`, and no other: some may not be imported twice."""
    return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in tops}

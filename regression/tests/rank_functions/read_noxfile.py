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
    kept = {name: of for name, of in sys.modules.items() if name.partition(".")[0] != "requirements"}
    path = mock.patch.object(sys, "path", [*sys.path])
    with mock.patch.dict(sys.modules, kept | {"nox": nox}, clear=True), path, chdir(ROOT):
        return runpy.run_path("noxfile.py", run_name="noxfile")

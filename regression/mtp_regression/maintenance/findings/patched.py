"""Runs a script with other source of a bridge than the environment's.

    python -m mtp_regression.maintenance.findings.patched FOLDER PACKAGE script.py

The folder comes first on the module path; modules that the server has imported already are imported anew.
"""

import importlib
import os
import sys
from pathlib import Path

from mtp_bridge_patch.script import run_as_main


def main(folder: str, package: str, script: str) -> None:
    """Run a script as `__main__`, with a folder that has a package first on the module path."""
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    taken = importlib.import_module(package)
    assert Path(os.path.abspath(str(taken.__file__))).is_relative_to(folder)  # noqa: PTH100 - a link
    run_as_main([script], module=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

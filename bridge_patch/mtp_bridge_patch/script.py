"""Runs a script or a module as Python itself does."""

import runpy
import sys
from pathlib import Path


def run_as_main(command: list[str], *, module: bool) -> None:
    """Run a script, or a module, as `__main__` of this process, which `python -m` has started.

    Args:
        command: Path of the script, or name of the module, and its arguments; becomes `sys.argv`.
        module: Whether it is a module.
    """
    sys.argv = command
    if module:
        # sys.path[0] is the working directory already, as for any `python -m`.
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    else:
        if not sys.flags.safe_path:
            sys.path[0] = str(Path(command[0]).resolve().parent)
        runpy.run_path(command[0], run_name="__main__")

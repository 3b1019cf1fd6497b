"""Runs a script or a module with the patch applied, as if Python ran it directly.

Under torchrun, either of these:

    torchrun --nproc-per-node 2 -m mtp_bridge_patch script.py args...
    torchrun --nproc-per-node 2 --no-python python -m mtp_bridge_patch script.py args...
"""

import os
import runpy
import sys
from pathlib import Path

from mtp_bridge_patch.errors import UnsupportedRelease
from mtp_bridge_patch.patch import apply

USAGE = "usage: python -m mtp_bridge_patch (script.py | -m module) [args ...]"


def main() -> None:
    """Apply the patch, say so on rank 0, and run what the command line names.

    Raises:
        SystemExit: No script or module is named, Megatron-Bridge cannot be patched, or the script exits.
    """
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return
    is_module = arguments[:1] == ["-m"]
    command = arguments[1:] if is_module else arguments
    if not command or command[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    try:
        status = apply()
    except UnsupportedRelease as error:
        sys.exit(f"mtp_bridge_patch: {error}")
    if os.environ.get("RANK", "0") == "0":
        print(f"mtp_bridge_patch: {status}", file=sys.stderr)
    sys.argv = command
    if is_module:
        # sys.path[0] is the working directory already, as for any `python -m`.
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        if not sys.flags.safe_path:
            sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

"""Runs a script or a module with the patch applied, as if Python ran it directly.

Under torchrun, either of these:

    torchrun --standalone --nproc-per-node 2 -m mtp_bridge_patch script.py args...
    torchrun --standalone --nproc-per-node 2 --no-python python -m mtp_bridge_patch script.py args...
"""

import os
import sys

from mtp_bridge_patch.errors import UnsupportedRelease
from mtp_bridge_patch.patch import apply
from mtp_bridge_patch.script import run_as_main

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
    run_as_main(command, module=is_module)


if __name__ == "__main__":
    main()

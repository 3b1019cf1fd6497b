"""Runs somebody's conversion script, unchanged, on a machine without a GPU.

    python -m mtp_regression.on_cpu script.py args...
    python -m mtp_regression.on_cpu --ranks 8 script.py args...
    torchrun --standalone --nproc-per-node 8 -m mtp_regression.on_cpu script.py args...

The script finds a stand-in for TransformerEngine, and CUDA and NCCL answered by the CPU and gloo. `-m module`
runs a module, so `-m mtp_bridge_patch script.py` is the patched script.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed import TCPStore

from mtp_bridge_patch.script import run_as_main
from mtp_regression.megatron import te_standin
from mtp_regression.megatron.cpu import scripts_on_cpu
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.rank import RankError
from mtp_regression.ranks.run import run
from mtp_regression.ranks.world import World, leave

LOGS = Path("reports/on_cpu")
"""Where the output of ranks is kept that are started here; of rank 0 it is printed, too."""

_LOOPBACK = "127.0.0.1"
_TIMED_OUT = 124  # as timeout(1)


def run_on_cpu(command: list[str], *, module: bool) -> None:
    """Run a script or a module as `__main__` of this process, as if there were a GPU; or on those there are.

    What is replaced stays so until the process ends: what a script leaves to its end may ask for CUDA too.

    Args:
        command: Path of the script, or name of the module, and its arguments.
        module: Whether it is a module.
    """
    if not torch.cuda.is_available():
        install_stand_ins()
        held = ExitStack()
        held.enter_context(scripts_on_cpu())
        atexit.register(held.close)
    run_as_main(command, module=module)


def install_stand_ins() -> None:
    """Let Megatron find what it imports, and what is not on this machine; before it is imported."""
    te_standin.install()
    # Apex's, which the default of Megatron-Core's `gradient_accumulation_fusion` wants at the build.
    kernel = "fused_weight_gradient_mlp_cuda"
    sys.modules.setdefault(kernel, module_from_spec(ModuleSpec(kernel, None)))


def run_ranks(command: list[str], *, module: bool, ranks: int, time_limit: float, logs: Path = LOGS) -> int:
    """Run a script or a module on new ranks, which find themselves as torchrun's do.

    Args:
        command: See `run_on_cpu`.
        module: See `run_on_cpu`.
        ranks: Number of ranks.
        time_limit: Seconds that they may take.
        logs: Folder for each rank's output, `rank0.log` and so on.

    Returns:
        0 when all have ended well. Otherwise no rank is left, standard error has the first failure's
        traceback, or the end of its output, and this is its exit code: as a shell has it after a signal, and
        124 at the time limit.
    """
    # The ranks meet at a port that is taken already, as torchrun's do.
    store = TCPStore(_LOOPBACK, 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(store.port),
        "LOCAL_WORLD_SIZE": str(ranks),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    try:
        with _printed(logs / "rank0.log"):
            run(
                _on_rank,
                *(command, module, environment),
                world_size=ranks,
                time_limit=time_limit,
                log_folder=logs,
                preload=[_on_rank.__module__],
                device=Device.CUDA if torch.cuda.is_available() else Device.CPU,
            )
    except RankError as error:
        print(f"on_cpu: {error}", file=sys.stderr)
        if error.exit_code is None:
            return _TIMED_OUT
        return 128 - error.exit_code if error.exit_code < 0 else error.exit_code or 1
    return 0


def _on_rank(world: World, command: list[str], module: bool, environment: Mapping[str, str]) -> None:
    """Run on a rank, which ends as Python does: threads are waited for, exit functions are called."""
    leave(world)  # the script makes a group of its own
    os.environ.update(environment)
    atexit._clear()  # those of the process that this one is a fork of
    try:
        run_on_cpu(command, module=module)
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    else:
        code = 0
    cast("Any", threading)._shutdown()
    atexit._run_exitfuncs()
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


@contextmanager
def _printed(log: Path) -> Iterator[None]:
    """Print what is written to a new file, as it comes, for the length of a `with` block."""
    log.unlink(missing_ok=True)
    ended = threading.Event()

    def follow() -> None:
        while not log.exists():
            if ended.wait(0.1):
                return
        with log.open(errors="replace") as text:
            last = False
            while not last:
                last = ended.wait(0.1)
                sys.stdout.write(text.read())
                sys.stdout.flush()

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def main() -> int:
    """Run what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mtp_regression.on_cpu",
        usage="%(prog)s [--ranks N] [--time-limit SECONDS] (script.py | -m module) [args ...]",
        description="Run a conversion script unchanged where there is no GPU.",
    )
    add = parser.add_argument
    add("--ranks", type=int, default=0, help="start so many ranks; without it, be a process")
    add("--time-limit", type=float, help="seconds that the ranks may take (default: 3600)")
    add("-m", dest="module", action="store_true", help="run a module, such as mtp_bridge_patch")
    add("command", nargs=argparse.REMAINDER, help="the script or module, and its arguments")
    options = parser.parse_args()
    command, ranks = options.command, options.ranks
    if not command or command[0].startswith("-"):
        parser.error("no script or module is named")
    if ranks < 0 or (ranks and "RANK" in os.environ):
        parser.error("--ranks is for a process that is not a rank; torchrun has started this one")
    if options.time_limit and not ranks:
        parser.error("--time-limit is for --ranks")
    if torch.cuda.is_available():
        said = "on_cpu: there is a GPU, so nothing is replaced; CUDA_VISIBLE_DEVICES= hides it"
        print(said, file=sys.stderr)
    if ranks:
        limit = options.time_limit or 3600.0
        return run_ranks(command, module=options.module, ranks=ranks, time_limit=limit)
    run_on_cpu(command, module=options.module)
    return 0


if __name__ == "__main__":
    from mtp_regression import on_cpu  # by its name, by which ranks import it

    sys.exit(on_cpu.main())

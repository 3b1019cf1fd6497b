"""Checks that this Python environment has what a round trip needs: packages, GPUs, an importable bridge."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PINNED = "python3 -m pip install --no-deps -r requirements/megatron-bridge-0.6.2.txt"
"""The command that installs every missing package, in a clone of the kit."""

_IMPORT = """
import mtp_regression.adapters.megatron_bridge
from mtp_regression.megatron import te_standin
print(te_standin.describe())
"""


@dataclass(frozen=True)
class Found:
    """One package or device that was looked for.

    Attributes:
        name: Its name.
        found: Its release or description; "" if it was not found.
        needed_by: What cannot run without it; "" if everything can.
        mend: The command that installs it; "" if no command can.
    """

    name: str
    found: str
    needed_by: str = ""
    mend: str = ""

    @property
    def missing(self) -> bool:
        """Whether it was not found and something needs it."""
        return not self.found and bool(self.needed_by)


def examine() -> Iterator[Found]:
    """Look for everything, cheapest first; the import of the bridge comes last and takes half a minute."""
    yield Found("mtp-bridge-kit", kit_release())
    torch = _release("torch")
    yield Found("torch", torch, "every round trip", PINNED)
    yield Found("psutil", _release("psutil"), "every round trip", "python3 -m pip install --no-deps psutil")
    if torch:
        yield from _accelerators()
    for package in ("megatron-core", "megatron-bridge", "transformers"):
        yield Found(package, _release(package), "Megatron-Bridge's adapter", PINNED)
    yield _bridge()


def _accelerators() -> Iterator[Found]:
    import torch

    on_gpu = "--device cuda and cuda-shared"
    cuda = torch.version.cuda or ""
    yield Found("CUDA of torch", cuda, on_gpu)
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    described = ", ".join(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus)
    yield Found("GPUs", described and f"{len(gpus)}: {described}", on_gpu)
    nccl = torch.cuda.nccl.version() if gpus and torch.distributed.is_nccl_available() else ()
    yield Found("NCCL", ".".join(map(str, nccl)), "--device cuda")


def _bridge() -> Found:
    """Import the adapter in a new process, as a rank does."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Found("import of the bridge", "", f"Megatron-Bridge's adapter ({reason})", PINNED)
    seconds, engine = time.perf_counter() - start, done.stdout.splitlines()[-1]
    return Found("import of the bridge", f"{seconds:.0f} s; modules from TransformerEngine {engine}")


def kit_release() -> str:
    """Return the kit's release; of a clone that is on the module path alone, what its source says it is."""
    installed = _release(_KIT)
    if installed:
        return installed
    try:
        project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text("utf-8"))[
            "project"
        ]
    except (OSError, ValueError, KeyError):
        project = {}
    release = project["version"] if project.get("name") == _KIT else "of unknown release"
    return f"{release}, not installed"


_KIT = "mtp-bridge-kit"


def _release(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

"""The machine's GPUs and CUDA toolkit, and TransformerEngine built with it; for `noxfile.py`."""

import os
import shutil
import subprocess
from pathlib import Path

import nox


def install_transformer_engine(session: nox.Session) -> None:
    """Compile TransformerEngine for the environment's PyTorch, and fail if it cannot be imported."""
    site = session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    includes = sorted(str(path) for path in Path(str(site).strip()).glob("nvidia/*/include"))
    environment = {
        "CPLUS_INCLUDE_PATH": os.pathsep.join(includes),
        "CUDA_HOME": str(cuda_toolkit()),
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(os.cpu_count())),  # a compiler takes up to 2 GB
        "NVTE_PYTORCH_FORCE_BUILD": "TRUE",  # or it looks for a wheel outside of the package registry
    }
    pins = str(Path(__file__).parent / "transformer-engine.txt")
    session.install("--no-deps", "--no-build-isolation", "-r", pins, env=environment)
    # Or the stand-in would step in. After torch, which has loaded the CUDA libraries that it links to.
    session.run("python", "-c", "import torch, transformer_engine.pytorch")


def cuda_toolkit() -> Path | None:
    """Find the CUDA toolkit: that of CUDA_HOME, of the nvcc on the path, or the one at its usual place.

    An nvcc on the path may be a script that calls another, so a toolkit is what has the headers beside it.
    """
    nvcc = shutil.which("nvcc")
    homes = (os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parent.parent, "/usr/local/cuda")
    parts = ("bin/nvcc", "include/cuda_runtime.h")
    return next(
        (Path(home) for home in homes if home and all(Path(home, part).exists() for part in parts)), None
    )


def gpus() -> list[str]:
    """List the machine's NVIDIA GPUs, a line each."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)  # noqa: S607
    return listed.stdout.splitlines() if listed.returncode == 0 else []

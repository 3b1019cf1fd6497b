"""What a GPU machine without a network lacks: packed as wheels here, unpacked there."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

from mtp_regression.deferred.imports import SWITCH

LIMIT = 55 * 10**6
"""Bytes that the wheels may have together."""

_CUDA = re.compile(r"cuda-|nvidia-(c|n)")  # not nvidia-modelopt

TOUCHED = """
import sys
from importlib import metadata
from pathlib import Path
import mtp_regression.adapters.megatron_bridge
from modelopt.torch.quantization.utils import is_quantized  # upstream asks when it saves
loaded = {str(Path(f).resolve()) for m in list(sys.modules.values()) if (f := getattr(m, "__file__", None))}
for distribution in metadata.distributions():
    if any(str(Path(distribution.locate_file(f)).resolve()) in loaded for f in distribution.files or ()):
        print(f"{distribution.metadata['Name']}=={distribution.version}")
"""


def pack(folder: Path) -> list[Path]:
    """Download or build the wheels that the machine lacks, for this environment's releases.

    Args:
        folder: Becomes a folder of wheels; what it held is removed.

    Returns:
        The wheels, the kit's own among them.

    Raises:
        RuntimeError: They are larger than `LIMIT` together.
        subprocess.CalledProcessError: The adapter cannot be imported here, or a wheel cannot be had.
    """
    machine = tomllib.loads(resources.files(__package__).joinpath("machine.toml").read_text(encoding="utf-8"))
    needless = {*machine["there"], *machine["left_out"], "mtp-bridge-kit"}
    command = [sys.executable, "-c", TOUCHED]
    undeferred = os.environ | {SWITCH: "0"}  # what is deferred may be touched there
    touched = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=undeferred
    ).stdout.split()
    wanted = [pin for pin in touched if _name(pin) not in needless and not _CUDA.match(_name(pin))]
    shutil.rmtree(folder, ignore_errors=True)
    root = Path(__file__).parents[4]
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*wheel, str(root), *wanted], check=True)
    wheels = sorted(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    if size > LIMIT:
        raise RuntimeError(f"the wheels have {size} bytes, more than {LIMIT}")
    return wheels


def unpack(wheels: Path, folder: Path) -> None:
    """Make a folder of wheels one that can be put on the module path, bytecode included.

    Raises:
        FileNotFoundError: There are no wheels.
    """
    paths = sorted(wheels.glob("*.whl"))
    if not paths:
        raise FileNotFoundError(f"{wheels} has no wheels; make them with --pack where there is a network")
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    compileall.compile_dir(folder, quiet=2, workers=0)


def _name(pin: str) -> str:
    """Normalise a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower()

"""The round trip on GPUs, whose verdicts must be those of the same cells on the CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from mtp_regression.ranks.devices import Device

FOLDER = Path("reports")


def main(words: Sequence[str], *, device: Device = Device.CUDA, folder: Path = FOLDER) -> int:
    """Run `mtpkit roundtrip` on the CPU, unless a report of it is named, then on GPUs; compare.

    Published dimensions are not taken to the CPU: there the generator's values are all that is compared with.

    Args:
        words: What else `mtpkit roundtrip` is to be told; its `--device` is that of the GPUs.
        device: Where the second run has its tensors.
        folder: Where `gpu_roundtrip.json` goes and, with its logs, `gpu_roundtrip/cpu.json`.

    Returns:
        `mtpkit roundtrip`'s exit code, the gravest of both runs; 2 without a GPU.
    """
    if device.on_gpu and not torch.cuda.is_available():
        print(
            "gpu-roundtrip needs a GPU that torch can use; `mtpkit doctor` says what is missing",
            file=sys.stderr,
        )
        return 2
    compared: list[str] = []
    code = 0
    if not _value(words, "--compare") and _value(words, "--scale") != "real":
        report = folder / "gpu_roundtrip" / "cpu.json"
        code = _roundtrip(*words, "--device", Device.CPU, "--report", str(report))
        if code == 2:
            return code
        compared = ["--compare", str(report)]
    options = ["--device", device, "--report", str(folder / "gpu_roundtrip.json")]
    limit = [] if _value(words, "--scale") == "real" else ["--time-limit", _CASE_SECONDS]
    return max(code, _roundtrip(*options, *limit, *compared, *words))


_CASE_SECONDS = "600"  # each rank imports the bridge itself


def _roundtrip(*words: str) -> int:
    grid = [] if _value(words, "--parallel") or _value(words, "--grid") else ["--grid", "full"]
    command = [sys.executable, "-m", "mtp_regression", "roundtrip", *grid, *words]
    return subprocess.run(command, check=False).returncode


def _value(words: Sequence[str], option: str) -> str:
    """Return what an option is given, the last time; "" if it is not there."""
    given = ""
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name == option:
            given = value if equals else following
    return given

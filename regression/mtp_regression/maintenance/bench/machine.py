"""The machine on which something was measured, without its name and without paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "safetensors", "numpy")


def machine() -> dict[str, str]:
    """Describe it: what of it, and which."""
    import psutil

    return {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()

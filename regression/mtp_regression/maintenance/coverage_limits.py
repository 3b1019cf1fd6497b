"""Runs `mtpkit coverage` over the published dimensions, within limits of time and memory.

    python -m mtp_regression.maintenance coverage-limits

With the installed release of Megatron-Bridge. Releases before 0.5.0 must leave packed MTP experts unfilled
unless they are patched; everything else must be covered.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mtp_bridge_patch.releases import installed_release, is_at_least
from mtp_fixtures import PRESETS
from mtp_fixtures.model.mlp import Moe

MOST_SECONDS = 90.0
MOST_MEMORY = 6_000_000_000
"""Bytes of resident memory, the processes' sum: pages that they share are counted more than once."""

MODELS = (
    ("qwen3.5-35b-a3b", "per-expert"),
    ("qwen3.6-35b-a3b", "packed"),
    ("qwen3.5-397b-a17b", "per-expert"),
    ("qwen3.5-397b-a17b", "packed"),
)
_EVERY = 0.1  # seconds between looks at the memory


@dataclass(frozen=True)
class Run:
    """One `mtpkit coverage`.

    Attributes:
        exit_code: Its exit code.
        document: What it printed as JSON.
        seconds: From its start to its end.
        memory: Most bytes of resident memory that it and its processes had at a time.
    """

    exit_code: int
    document: dict[str, Any]
    seconds: float
    memory: int


def main() -> int:
    """Run each model; returns 1 if one is not as it should be, or past a limit."""
    release = installed_release() or ""
    fills_packed = is_at_least(release, "0.5.0")
    table = Table(title=f"megatron-bridge {release}, ep8")
    for column in ("preset", "MTP experts", "", "expected", "found", "unfilled", "seconds", "GB"):
        table.add_column(column, justify="right" if column in ("unfilled", "seconds", "GB") else "left")
    failed = False
    for preset_name, layout in MODELS:
        for patched in (False, True):
            ran = measure(preset_name, "--mtp-experts", layout, "--parallel", "ep8", *["--patched"] * patched)
            expected = 0 if fills_packed or patched or layout != "packed" else 1
            unfilled = len(ran.document["starved"]) + len(ran.document["unmapped"])
            good = (
                (ran.exit_code, unfilled) == (expected, expected * _mtp_expert_parameters(preset_name))
                and ran.seconds <= MOST_SECONDS
                and ran.memory <= MOST_MEMORY
            )
            failed |= not good
            table.add_row(
                preset_name,
                layout,
                "patched" if patched else "",
                *("covered" if code == 0 else "not covered" for code in (expected, ran.exit_code)),
                str(unfilled),
                f"{ran.seconds:.1f}",
                f"{ran.memory / 1e9:.1f}",
                style="" if good else "bold red",
            )
    console = Console()
    console.print(table)
    console.print(f"limits: {MOST_SECONDS:g} s, {MOST_MEMORY / 1e9:g} GB")
    return int(failed)


def _mtp_expert_parameters(preset_name: str) -> int:
    """Tell how many routed experts' parameters an MTP layer has: `linear_fc1` and `linear_fc2` of each."""
    mlp = PRESETS[preset_name].published.text.mlp
    assert isinstance(mlp, Moe)
    return 2 * mlp.num_experts


def measure(*arguments: str) -> Run:
    """Run `mtpkit coverage ARGUMENTS... --json`, and look at its memory all the while.

    Raises:
        RuntimeError: It could not run; the message is its own.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mtp_regression", "coverage", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    memory = 0
    while True:
        try:
            output, errors = process.communicate(timeout=_EVERY)
            break
        except subprocess.TimeoutExpired:
            memory = max(memory, resident(process.pid))
    if process.returncode not in (0, 1) or not output:
        raise RuntimeError(errors)
    return Run(process.returncode, json.loads(output), time.perf_counter() - start, memory)


def resident(root: int) -> int:
    """Sum up the resident memory of a process and of all that come from it, in bytes; Linux."""
    total = 0
    family = [root]
    while family:
        folder = Path("/proc", str(family.pop()))
        try:
            total += int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for children in folder.glob("task/*/children"):
                family += map(int, children.read_text().split())
        except OSError:  # it has just ended
            continue
    return total

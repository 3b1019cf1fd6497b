"""Times the generator beside the alternatives, in one run, each as a whole process.

    python -m mtp_regression.maintenance bench-generate [FOLDER]

FOLDER is where the files go (a new temporary folder in it); 10 GB must be free there. Alternatives take
turns with the generator, and the fastest run of each counts, so that other work on the machine matters
less. A disk that writes slower than sha256 reads is the limit of a run with a manifest: take another.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from mtp_fixtures import PRESETS, CheckpointSpec, preset

TIMES = 5
TINY = "qwen3.6-35b-a3b"
REAL = "qwen3.5-2b"  # 4.5 GB in one file

_TRANSFORMERS = """
import sys
from transformers import AutoConfig, AutoModelForImageTextToText
config = AutoConfig.from_pretrained(sys.argv[1])
AutoModelForImageTextToText.from_config(config).save_pretrained(sys.argv[2])
"""
_SHA256 = """
import hashlib, sys
with open(sys.argv[1], "rb", buffering=0) as file:
    hashlib.file_digest(file, "sha256")
"""


@dataclass
class Run:
    """A command's fastest run: seconds, and its peak memory in bytes."""

    seconds: float = float("inf")
    memory: int = 0

    def add(self, command: list[str], output: Path | None = None) -> None:
        """Run the command once more, its standard output into a file."""
        os.sync()  # what the run before left for the disk is not this one's
        start = perf_counter()
        with open(output or os.devnull, "wb") as out:  # noqa: PTH123
            actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
            child = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
            _, status, usage = os.wait4(child, 0)
        if status:
            raise RuntimeError(f"exit status {os.waitstatus_to_exitcode(status)}: {' '.join(command)}")
        self.seconds = min(self.seconds, perf_counter() - start)
        self.memory = max(self.memory, usage.ru_maxrss * 1024)


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    here: str
    beside: str
    limit: str
    held: bool


def main(parent: Path | None) -> int:
    """Print a table, a row a comparison; returns 1 if a limit is not held."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="mtp-bench-", dir=parent) as scratch:
        rows = [*_tiny(Path(scratch)), *_real(Path(scratch)), *_sparse(Path(scratch))]
    table = Table(title="the generator, whole processes")
    for column in ("what", "here", "beside", "limit", ""):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.here, row.beside, row.limit, "held" if row.held else "MISSED")
    Console().print(table)
    return 0 if all(row.held for row in rows) else 1


def _mtpkit(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mtp_regression", *arguments]


def _tiny(scratch: Path) -> list[Row]:
    config = CheckpointSpec(preset(TINY)).write(scratch / "config")
    here, there = Run(), Run()
    for _ in range(TIMES):
        here.add(_mtpkit("generate", TINY, _fresh(scratch / "here")))
        there.add([sys.executable, "-c", _TRANSFORMERS, str(config), _fresh(scratch / "there")])
    ratio = there.seconds / here.seconds
    return [
        Row(
            f"tiny {TINY}",
            f"{here.seconds:.2f} s",
            f"transformers: {there.seconds:.1f} s, {ratio:.0f} times as long",
            "0.6 s, 15 times",
            here.seconds < 0.6 and ratio >= 15,
        )
    ]


def _real(scratch: Path) -> list[Row]:
    plain, hashed, cat, sha256 = Run(), Run(), Run(), Run()
    folder, copy = scratch / "real", scratch / "copy"
    for _ in range(TIMES):
        plain.add(_mtpkit("generate", REAL, _fresh(folder), "--scale", "real", "--no-manifest"))
        cat.add(["cat", str(_shard(folder))], copy)
        copy.unlink()
        hashed.add(_mtpkit("generate", REAL, _fresh(folder), "--scale", "real"))
        sha256.add([sys.executable, "-c", _SHA256, str(_shard(folder))])
    size = _shard(folder).stat().st_size
    shutil.rmtree(folder)
    memory = max(plain.memory, hashed.memory)
    return [
        _rate("no manifest", size, plain, "cat", cat, 0.6),
        _rate("with manifest", size, hashed, "sha256", sha256, 0.8),
        Row("  peak memory", f"{memory / 1e6:.0f} MB", "", "1 GB", memory < 1e9),
    ]


def _rate(what: str, size: int, here: Run, name: str, beside: Run, share: float) -> Row:
    """Compare two rates; `share` is what must be reached of the other."""
    ratio = beside.seconds / here.seconds
    return Row(
        f"real {REAL}, {what}",
        f"{size / here.seconds / 1e9:.2f} GB/s",
        f"{name}: {size / beside.seconds / 1e9:.2f} GB/s, {ratio:.0%} of it",
        f"{share:.0%}",
        ratio >= share,
    )


def _shard(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def _sparse(scratch: Path) -> list[Row]:
    rows = []
    folder = scratch / "sparse"
    for name in ("qwen3.6-35b-a3b", "qwen3.5-397b-a17b", "qwen3.5-397b-a17b-fp8"):
        here = Run()
        for _ in range(3):
            here.add(_mtpkit("generate", name, _fresh(folder), "--scale", "real", "--sparse"))
        size = sum(path.stat().st_size for path in folder.iterdir())
        used = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        limit = 1.0 if name == "qwen3.6-35b-a3b" else 2.0
        rows.append(
            Row(
                f"sparse {name}",
                f"{here.seconds:.2f} s",
                f"{size / 1e9:.0f} GB in {used / 1e6:.1f} MB of disk",
                "" if PRESETS[name].quantized else f"{limit:.0f} s",
                here.seconds < limit or PRESETS[name].quantized,
            )
        )
    return rows


def _fresh(folder: Path) -> str:
    """Remove a folder, and return its name for a command that makes it."""
    shutil.rmtree(folder, ignore_errors=True)
    return str(folder)

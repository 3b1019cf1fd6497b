"""Derives which packages the bridge imports and a conversion does not use: those that may be deferred.

    python -m mtp_regression.maintenance deferred

Measures the import of Megatron-Bridge's adapter by package, with nothing deferred and as users have it, then
takes both checkpoints of the main job through all stages, and watches in whose files functions begin.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.deferred.imports import SWITCH, listed_packages
from mtp_regression.server.client import SWITCH as SERVER

SHARE = 0.02
"""Of the imported modules: what a package has at least that is worth a word. Time differs from run to run."""

NEEDED = {
    "sympy": "torch imports it",
    "torchvision": "transformers reads the members of its InterpolationMode when it is imported",
}
"""Packages that a conversion does not use, and that are imported in spite of it."""

_WATCHED = "mtp_regression.maintenance.deferred.watched:Watched"
_USED = re.compile(r"^uses (\S+)$", re.MULTILINE)
_TOUCHED = re.compile(r"^(\S+) was deferred, and is used", re.MULTILINE)
_TIME = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)$", re.MULTILINE)


@dataclass
class Import:
    """What an import takes, by package.

    Attributes:
        modules: Number of modules.
        micros: Microseconds.
    """

    modules: Counter[str]
    micros: Counter[str]

    @classmethod
    def of(cls, printed: str) -> Import:
        """Read what `python -X importtime` prints."""
        found = [(int(micros), name.partition(".")[0]) for micros, name in _TIME.findall(printed)]
        micros: Counter[str] = Counter()
        for took, package in found:
            micros[package] += took
        return cls(Counter(package for _, package in found), micros)

    def large(self) -> list[str]:
        """Return the packages that have a `SHARE` of the modules, the largest first."""
        return [name for name, count in self.modules.most_common() if count >= SHARE * self.modules.total()]


def problems(left: Import, used: Collection[str], listed: Collection[str]) -> Iterator[str]:
    """Say where the list of deferred packages is not what it should be.

    Args:
        left: The import, with what is listed deferred.
        used: Packages that a conversion uses.
        listed: Those that are deferred.
    """
    for package in sorted({*used} & {*listed}):
        yield f"{package} is deferred, and a conversion uses it"
    for package in left.large():
        if package not in {*used, *listed, *NEEDED}:
            yield f"{package} is imported, and no conversion uses it: it may be deferred"
    for package in sorted({*used} & NEEDED.keys()):
        yield f"{package} is used; it need not be said why it is imported"


def main() -> int:
    """Measure and watch, print the table; returns 1 if the list is not what it should be."""
    whole, left = _imported({SWITCH: "0"}), _imported({})
    used, listed = _watched(), listed_packages()
    Console(width=110).print(_table(whole, left, used, listed))
    found = list(problems(left, used, listed))
    for problem in found:
        print(problem)
    print(f"deferred: {len(listed)} packages, " + (f"{len(found)} problems" if found else "as listed"))
    return 1 if found else 0


def _imported(environment: Mapping[str, str]) -> Import:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        f"import {PATCHED_MEGATRON_BRIDGE.partition(':')[0]}",
    ]
    done = subprocess.run(
        command, env=os.environ | environment, stderr=subprocess.PIPE, text=True, check=True
    )
    return Import.of(done.stderr)


def _watched() -> set[str]:
    """Return the packages that the main job uses on one rank."""
    with tempfile.TemporaryDirectory(prefix="mtp-deferred-") as folder:
        words = ("--adapter", _WATCHED, "--parallel", "tp1", "--report", f"{folder}/report.json")
        command = [sys.executable, "-m", "mtp_regression", "roundtrip", *words]
        subprocess.run(command, env=os.environ | {SERVER: "0"}, stdout=subprocess.DEVNULL, check=True)
        text = "\n".join(log.read_text(encoding="utf-8") for log in Path(folder).rglob("*.log"))
    return {*_USED.findall(text), *_TOUCHED.findall(text)}


def _table(whole: Import, left: Import, used: Collection[str], listed: Collection[str]) -> Table:
    table = Table("package", box=None, pad_edge=False)
    for heading in ("modules", "% of the time", "modules left", "% left"):
        table.add_column(heading, justify="right")
    table.add_column("a conversion")
    for name in dict.fromkeys([*whole.large(), *left.large(), *sorted({*listed} & whole.modules.keys())]):
        figures = (
            (found.modules[name], 100 * found.micros[name] / found.micros.total()) for found in (whole, left)
        )
        cells = [text for modules, share in figures for text in (str(modules), f"{share:.1f}")]
        unused = "deferred" if name in listed else NEEDED.get(name, "?")
        if not left.modules[name] and name not in listed:
            unused = "comes with one that is deferred"
        table.add_row(name, *cells, "uses it" if name in used else f"does not use it: {unused}")
    return table

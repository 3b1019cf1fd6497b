"""What is known of each release: a folder with a file RELEASE.json of each, of rows by their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtp_bridge_patch.releases import ENVIRONMENTS

UPSTREAM, PATCHED = "upstream", "patched"
"""The columns of a release: as it is, and with the patch applied."""
RELEASES = tuple(release for release, like in ENVIRONMENTS.items() if release == like)
OTHERS = {release: like for release, like in ENVIRONMENTS.items() if release != like}
"""Releases that are patched as well, and the one of `RELEASES` that a page compares each with."""


def known_of_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of every release, by release and name.

    Raises:
        FileNotFoundError: There is no file of a release.
    """
    return {release: known_of_one(folder, release) for release in (*RELEASES, *OTHERS)}


def known_of_one(folder: Path, release: str) -> dict[str, Any]:
    """Return the rows of a release, by name.

    Raises:
        FileNotFoundError: There is no file of it.
    """
    known: dict[str, Any] = json.loads((folder / f"{release}.json").read_text(encoding="utf-8"))
    return known


def known_of(
    folder: Path, release: str, found: Mapping[str, Any], names: Iterable[str], *, update: bool
) -> dict[str, Any]:
    """Return the rows that are known of a release; there may be none.

    Args:
        folder: Where the file is.
        release: The release.
        found: Rows as they are now.
        names: The names of all rows, in the order of the file.
        update: Whether to write `found` into the file first.
    """
    file = folder / f"{release}.json"
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if update:
        folder.mkdir(exist_ok=True)
        known |= found
        ordered = {name: known[name] for name in names if name in known}
        file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    return known


def differences(known: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Say which rows are not as they are known."""
    for name, row in found.items():
        if known.get(name) != row:
            yield f"{name}: known as {known.get(name)}, and is {row}"


def conclude(what: str, problems: Sequence[str]) -> int:
    """Print all problems and, last, what was run and whether it is as known; return the exit code."""
    for problem in problems:
        print(problem)
    print(f"{what}: " + (f"{len(problems)} problems" if problems else "as known"))
    return 1 if problems else 0

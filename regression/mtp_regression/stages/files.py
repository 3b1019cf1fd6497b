"""The saved folder as a checkpoint that others read: the files beside the weights, the index, the modes."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open

from mtp_checkpoint import inspect
from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_checkpoint.files.index import INDEX_NAME
from mtp_regression.comparison.side_files import compare_side_files, side_files
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.loaded import Loaded

_FORMAT = "*.safetensors: __metadata__.format"
_MODE = "*.safetensors: mode"


def files(loaded: Loaded) -> Outcome:
    """Save the model twice; on the first rank compare the folder with the checkpoint's and with the other."""
    first, second = loaded.folder / "saved", loaded.folder / "saved-again"
    if not loaded.gather(first.exists())[0]:  # by the stage before
        loaded.save(first)
    if loaded.case.generated is None:  # no second copy of a checkpoint that is on no disk
        loaded.save(second)
    if loaded.world.rank != 0:
        return Outcome()
    source = loaded.case.checkpoint
    findings = [
        *compare_side_files(source, first, loaded.config),
        *_weights(source, first),
        *_other(first, second),
    ]
    report = inspect(first)
    findings += [Finding(INDEX_NAME, Verdict.WRONG, text) for text in (*report.problems, *report.notes)]
    compared = len(side_files(source)) + len(read_checkpoint(first).shards)
    shutil.rmtree(second, ignore_errors=True)
    return Outcome(compared=compared, findings=findings)


def _weights(source: Path, saved: Path) -> Iterator[Finding]:
    """Look at index and shards; whether they agree is for `read_checkpoint` and `inspect` to say."""
    headers, original = read_checkpoint(saved), read_checkpoint(source)
    if headers.index is None and len(headers.shards) > 1:
        yield Finding(INDEX_NAME, Verdict.MISSING, f"there are {len(headers.shards)} files")
    want = {"pt", *(_format(source / file) for file in original.shards)}
    if others := [file for file in headers.shards if _format(saved / file) not in want]:
        yield Finding(_FORMAT, Verdict.WRONG, f"{_format(saved / others[0])} in {len(others)} files")
    usual = 0o666 & ~_umask()
    modes = {file: stat.S_IMODE((saved / file).stat().st_mode) for file in headers.shards}
    if others := [file for file, mode in modes.items() if mode != usual]:
        yield Finding(
            _MODE, Verdict.WRONG, f"{modes[others[0]]:o} instead of {usual:o}, in {len(others)} files"
        )


def _format(file: Path) -> str | None:
    with safe_open(file, framework="numpy") as content:
        return (content.metadata() or {}).get("format")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _other(first: Path, second: Path) -> Iterator[Finding]:
    """Say which files a second save has written in another way."""
    if not second.exists():
        return
    paths = ((folder, path) for folder in (first, second) for path in folder.rglob("*"))
    names = {path.relative_to(folder).as_posix() for folder, path in paths if not path.is_dir()}
    for name in sorted(names):
        one, other = first / name, second / name
        if not (one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)):
            yield Finding(name, Verdict.WRONG, "a second save has written something else")

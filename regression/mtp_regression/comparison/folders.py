"""Compares two checkpoints' folders: every tensor, and the files beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mtp_checkpoint.files.untrusted import parse_object, read_json
from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.side_files import compare_side_files, side_files
from mtp_regression.comparison.stored import Stored
from mtp_regression.comparison.tensors import DTYPES, RawTensor, Tensors, read_folder
from mtp_regression.comparison.verdicts import Finding


@dataclass(frozen=True)
class Compared:
    """What two folders differ in.

    Attributes:
        tensors: Number of tensors of the first.
        files: Number of its other files.
        findings: What is not equal: tensors first.
    """

    tensors: int
    files: int
    findings: list[Finding]


def compare_folders(first: Path, second: Path, *, progress: Callable[[int], None] | None = None) -> Compared:
    """Compare a checkpoint with another one; in memory are two pieces of a tensor, or two that differ.

    Args:
        first: The folder that is right.
        second: The other one.
        progress: Called with the size in bytes of each tensor that was compared.

    Raises:
        CheckpointError: One of them cannot be read as a checkpoint.
    """
    source, other = read_folder(first), read_folder(second)
    findings = compare(source, _told(other, progress))
    config = parse_object(read_json(first / CONFIG_NAME), "")[0] if (first / CONFIG_NAME).exists() else {}
    files = side_files(first)
    same = [name for name in files & side_files(second) if _same(first / name, second / name)]
    findings += compare_side_files(first, second, config, same=same)
    return Compared(len(source), len(files), findings)


def _same(one: Path, other: Path) -> bool:
    return Stored(one, 0, one.stat().st_size).equals(Stored(other, 0, other.stat().st_size))


def _told(tensors: Tensors, progress: Callable[[int], None] | None) -> Iterator[tuple[str, RawTensor]]:
    for name, tensor in tensors.items():
        yield name, tensor
        if progress is not None:
            progress(math.prod(tensor.shape) * DTYPES[tensor.dtype].itemsize)

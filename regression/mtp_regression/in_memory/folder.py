"""Writes a model into a folder, as the checkpoint that was loaded is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from mtp_checkpoint.files.index import INDEX_NAME
from mtp_regression.comparison.side_files import side_files
from mtp_regression.in_memory.checkpoint import Checkpoint
from mtp_regression.in_memory.conversions import Array


def write_file(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write a safetensors file, with the mode that the process gives to any file."""
    content = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(content, metadata={"format": "pt"}))


_OTHERS = "model-others.safetensors"
"""The file of tensors that the checkpoint does not have, which a bridge with a mistake may write."""


class FolderWriter:
    """Writes every file as soon as its tensors are there."""

    def __init__(self, folder: Path, like: Checkpoint) -> None:
        """Begin a folder, which does not exist, whose files have the names and tensors of a checkpoint's."""
        self._folder, self._like = folder, like
        self._files = dict(like.headers.shard_of)
        self._left: dict[str, set[str]] = {}
        for key, file in like.headers.shard_of.items():
            self._left.setdefault(file, set()).add(key)
        self._waiting: dict[str, dict[str, Array]] = {}
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True)

    def add(self, key: str, tensor: Array) -> None:
        """Take a tensor; one that the checkpoint does not have goes into a file of its own."""
        file = self._files.setdefault(key, _OTHERS)
        self._waiting.setdefault(file, {})[key] = tensor
        self._sizes[key] = tensor.nbytes
        left = self._left.get(file, set())
        left.discard(key)
        if file in self._left and not left:
            write_file(self._folder / file, self._waiting.pop(file))

    def finish(self) -> None:
        """Write what is left, the index, if there are several files, and copy the other files."""
        headers = self._like.headers
        for file, tensors in self._waiting.items():
            write_file(self._folder / file, tensors)
        if headers.index is not None or len({self._files[key] for key in self._sizes}) > 1:
            index = {
                "metadata": {"total_size": sum(self._sizes.values())},
                "weight_map": {key: self._files[key] for key in sorted(self._sizes)},
            }
            text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
            (self._folder / INDEX_NAME).write_text(text, encoding="utf-8")
        for name in side_files(self._like.folder):
            shutil.copyfile(self._like.folder / name, self._folder / name)

"""The index of a checkpoint, and with it the headers of all its files.

The index is what transformers writes beside several safetensors files: ``weight_map`` gives each tensor's
file, ``metadata`` sums. Nothing outside the checkpoint's folder is opened, and no tensor is read.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp_bridge_patch.headers import ShardHeader, TensorHeader, read_header
from mtp_bridge_patch.untrusted import CheckpointError, check_inside, parse_object, read_json, shown

INDEX_NAME = "model.safetensors.index.json"
SUFFIX = ".safetensors"

# The file of an entry that names none. It is inside this module only: such an index is an error.
_NO_FILE = ""


@dataclass(frozen=True)
class Index:
    """The content of `model.safetensors.index.json`.

    Attributes:
        weight_map: File name of each tensor, in the index's order.
        metadata: The index's own `metadata`, unchecked; empty where it has none.
    """

    weight_map: dict[str, str]
    metadata: dict[str, Any]

    @property
    def total_size(self) -> int | None:
        """Size of all tensors' data in bytes, as the index says; None where it says no whole number.

        Qwen3.6's index has it as a float.
        """
        size = self.metadata.get("total_size")
        if isinstance(size, float) and size.is_integer():
            return int(size)
        return size if type(size) is int else None


@dataclass(frozen=True)
class CheckpointHeaders:
    """All that the headers of a checkpoint say; index and files agree.

    Attributes:
        folder: Holds the files.
        index: The index; None where there is none.
        shards: Header of each file, by file name, sorted.
        tensors: All tensors by name, file after file.
        shard_of: File name of each tensor, in the same order.
    """

    folder: Path
    index: Index | None
    shards: dict[str, ShardHeader]
    tensors: dict[str, TensorHeader]
    shard_of: dict[str, str]

    @property
    def total_size(self) -> int:
        """Size of all tensors' data in bytes."""
        return sum(shard.data_size for shard in self.shards.values())


def read_index(path: Path) -> Index:
    """Read and check an index.

    Args:
        path: The index file.

    Returns:
        The index. Its file names are plain: none leads out of the folder or into one below it.

    Raises:
        CheckpointError: The file cannot be read, is larger than `MAX_JSON_SIZE`, or is no index. Every entry
            without a plain file name is listed.
    """
    index, problems = _read_index(path)
    if problems:
        raise CheckpointError(str(path), problems)
    return index


def read_checkpoint(path: Path) -> CheckpointHeaders:
    """Read the headers of a checkpoint and check them against its index.

    Args:
        path: A folder, or one safetensors file. A folder's files are those that its
            `model.safetensors.index.json` names or, where it has none, all `*.safetensors` in it.

    Returns:
        The headers. Every tensor is in one file, and in the one that the index says.

    Raises:
        CheckpointError: Lists every file that is missing, unreadable or (through a link) outside the folder,
            and every contradiction. What follows from an unreadable file alone is left out.
    """
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises where it may not look)
        return _checkpoint(path.parent, None, {path.name: read_header(path)}, [])
    index: Index | None = None
    problems: list[str] = []
    if os.path.lexists(path / INDEX_NAME):
        try:
            check_inside(path, INDEX_NAME)
            index, problems = _read_index(path / INDEX_NAME)
        except CheckpointError as error:
            raise CheckpointError(str(path), [f"{INDEX_NAME}: {text}" for text in error.problems]) from None
        files = set(index.weight_map.values()) - {_NO_FILE}
        problems = [f"{INDEX_NAME}: {text}" for text in problems]
    else:
        try:
            files = {name for name in os.listdir(path) if name.endswith(SUFFIX)}  # noqa: PTH208
        except OSError as error:
            raise CheckpointError(str(path), [error.strerror or str(error)]) from None
    if not files and not problems:
        problems.append("no safetensors file")
    shards: dict[str, ShardHeader] = {}
    for file in sorted(files):
        try:
            check_inside(path, file)
            shards[file] = read_header(path / file)
        except CheckpointError as error:
            problems += [f"{shown(file)}: {text}" for text in error.problems]
    return _checkpoint(path, index, shards, problems)


def _checkpoint(
    folder: Path, index: Index | None, shards: dict[str, ShardHeader], problems: list[str]
) -> CheckpointHeaders:
    """Put the files' headers together; raises if there were problems, or if there are now."""
    tensors: dict[str, TensorHeader] = {}
    shard_of: dict[str, str] = {}
    for file, shard in shards.items():
        for name in shard.tensors:
            if name in shard_of:
                problems.append(f"{shown(name)} is in {shown(shard_of[name])} and in {shown(file)}")
        tensors |= shard.tensors
        shard_of |= dict.fromkeys(shard.tensors, file)
    if index is not None and index.weight_map != shard_of:
        problems += _contradictions(index.weight_map, shards, shard_of)
    if not tensors and not problems:
        problems.append("no tensor in any file")
    if problems:
        raise CheckpointError(str(folder), problems)
    return CheckpointHeaders(folder, index, shards, tensors, shard_of)


def _contradictions(
    weight_map: Mapping[str, str], shards: Mapping[str, ShardHeader], shard_of: Mapping[str, str]
) -> Iterator[str]:
    for name, file in weight_map.items():
        if file not in shards or name in shards[file].tensors:
            continue
        if name in shard_of:
            yield f"the index puts {shown(name)} into {shown(file)}, it is in {shown(shard_of[name])}"
        else:
            yield f"{shown(name)} is in no shard, the index puts it into {shown(file)}"
    for name, file in shard_of.items():
        if name not in weight_map:
            yield f"{shown(name)} of {shown(file)} is not in the index"


def _read_index(path: Path) -> tuple[Index, list[str]]:
    """Return the index, with `_NO_FILE` in place of every file name that is refused, and its problems."""
    where = str(path)
    document, problems = parse_object(read_json(path), where)
    weight_map, metadata = document.get("weight_map"), document.get("metadata", {})
    if not isinstance(weight_map, dict):
        raise CheckpointError(where, [*problems, "has no weight_map of tensor names to file names"])
    if not isinstance(metadata, dict):
        problems.append("its metadata is no JSON object")
    plain: set[str] = set()
    for name, value in weight_map.items():
        if isinstance(value, str) and (value in plain or _is_plain(value)):
            plain.add(value)
        else:
            text = shown(value) if isinstance(value, str) else f"a JSON {type(value).__name__}"
            problems.append(f"the file of {shown(name)} is no plain file name: {text}")
            weight_map[name] = _NO_FILE
    return Index(weight_map, metadata), problems


def _is_plain(file: str) -> bool:
    return file not in ("", ".", "..") and not any(character in file for character in "/\\\0")

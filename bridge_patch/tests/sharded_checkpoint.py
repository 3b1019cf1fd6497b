"""A checkpoint of three shards with an index, and what is wrong once a part of it is changed."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mtp_bridge_patch.index import INDEX_NAME
from mtp_bridge_patch.untrusted import CheckpointError

from .header_files import file_bytes

FIRST, SECOND, THIRD = FILES = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
NAMES = {FIRST: ["embed", "lm_head"], SECOND: ["layer.0", "layer.1", "layer.2"], THIRD: ["mtp.norm"]}
"""The tensors of the checkpoint; each is two bytes."""


def write_shard(path: Path, names: Iterable[str]) -> None:
    header = {
        name: {"dtype": "BF16", "shape": [1], "data_offsets": [2 * place, 2 * place + 2]}
        for place, name in enumerate(names)
    }
    path.write_bytes(file_bytes(header, bytes(2 * len(header))))


def write_index(folder: Path, weight_map: object, **others: object) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map, **others}))


def weight_map() -> dict[str, str]:
    return {name: file for file, names in NAMES.items() for name in names}


def write_checkpoint(folder: Path) -> Path:
    """Make a folder, and write the sound checkpoint into it."""
    folder.mkdir()
    for file, names in NAMES.items():
        write_shard(folder / file, names)
    write_index(folder, weight_map(), metadata={"total_size": 12})
    return folder


def problems(read: Callable[[Path], object], path: Path) -> list[str]:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert caught.value.where == str(path)
    return caught.value.problems

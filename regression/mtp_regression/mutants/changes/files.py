"""Mistakes in what a save leaves on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from mtp_checkpoint.files.index import INDEX_NAME
from mtp_regression.in_memory.bridge import InMemoryBridge


def saving(change: Callable[[Path], None]) -> type:
    """Change a folder when it is saved."""

    class Saving(InMemoryBridge):
        def save(self, folder: Path) -> None:
            super().save(folder)
            if self.world.rank == 0:
                change(folder)
            self.world.barrier()

    return Saving


def _edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    if not path.exists():  # an index, of a single file
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def without_file(pattern: str) -> Callable[[Path], None]:
    """Leave a file out."""

    def change(folder: Path) -> None:
        for file in list(folder.glob(pattern))[:1]:
            file.unlink()

    return change


def text_config(**fields: Any) -> Callable[[Path], None]:
    """Write other values into `config.json`."""
    return lambda folder: _edited(folder / "config.json", lambda config: config["text_config"].update(fields))


def another_total(folder: Path) -> None:
    """Write a size into the index that is twice as large."""

    def change(index: dict[str, Any]) -> None:
        index["metadata"]["total_size"] *= 2

    _edited(folder / INDEX_NAME, change)


def ghosts(folder: Path) -> None:
    """Name tensors in the index that were not written."""

    def change(index: dict[str, Any]) -> None:
        index["weight_map"]["mtp.ghost.weight"] = next(iter(index["weight_map"].values()))

    _edited(folder / INDEX_NAME, change)


def without_format(folder: Path) -> None:
    """Write no metadata into the files of tensors."""
    for file in folder.glob("*.safetensors"):
        save_file(load_file(file), file)


def old_shard(folder: Path) -> None:
    """Leave a file of an earlier save behind, with a tensor of that."""
    shard = next(folder.glob("*.safetensors"))
    shutil.copy(shard, folder / "model-of-yesterday.safetensors")


def other_save(folder: Path) -> None:
    """Write into the configuration how many folders stand beside, which differs from save to save."""
    count = len(list(folder.parent.iterdir()))
    _edited(folder / "config.json", lambda config: config.update(transformers_version=f"5.0.{count}"))


def closed_mode(folder: Path) -> None:
    """Let nobody else read the files of tensors."""
    for file in folder.glob("*.safetensors"):
        file.chmod(0o600)


def without_shards_of_mtp(folder: Path) -> None:
    """Leave out what shares a file with MTP, and MTP."""

    def change(index: dict[str, Any]) -> None:
        files = {file for key, file in index["weight_map"].items() if key.startswith("mtp.")}
        for file in files:
            (folder / file).unlink()
        index["weight_map"] = {key: f for key, f in index["weight_map"].items() if f not in files}

    _edited(folder / INDEX_NAME, change)

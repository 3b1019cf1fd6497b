"""A saved index names what all ranks have saved, and its size."""

import json
import logging
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mtp_bridge_patch.fixes.saving.saved_index import FIX
from mtp_bridge_patch.upstream.hooks import Save

FILE_OF = {"a": "1.safetensors", "b": "2.safetensors", "c": "3.safetensors"}
INDEX = "model.safetensors.index.json"


def write(folder: Path, key: str) -> None:
    """Write the file of a tensor of two bytes."""
    header = json.dumps({key: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (folder / FILE_OF[key]).write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")


def write_index(folder: Path, named: str, total_size: int | None) -> dict[str, Any]:
    metadata = {} if total_size is None else {"total_size": total_size}
    content = {"metadata": metadata, "weight_map": {key: FILE_OF[key] for key in named}}
    (folder / INDEX).write_text(json.dumps(content))
    return content


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that saves into the folders of ranks, as rank 0."""

    def save(folders: list[Path], *, writes_index: bool = True, **options: Any) -> None:
        pretrained = SimpleNamespace(
            state=SimpleNamespace(source=SimpleNamespace(key_to_filename_map=FILE_OF))
        )
        assert FIX.save_weights is not None
        call = Save(None, pretrained, {"path": str(folders[0]), **options})

        def gather(values: list[Any], own: Any) -> None:
            from mtp_bridge_patch.fixes.saving.saved_index import _saved

            values[:] = [own, *(_saved(folder, FILE_OF) for folder in folders[1:])]

        dist = mock.Mock(**{"get_rank.return_value": 0, "get_world_size.return_value": len(folders)})
        dist.is_initialized.return_value = len(folders) > 1
        dist.all_gather_object.side_effect = gather
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(distributed=dist))
        monkeypatch.setitem(sys.modules, "torch.distributed", dist)
        index = folders[0] / INDEX

        def upstream() -> None:
            if writes_index and index.exists():
                os.utime(index, ns=(1, 1))

        FIX.save_weights(call, upstream)

    return save


@pytest.mark.parametrize(("told", "expected"), [(9, 6), (6, 6), (None, None)])
def test_size_is_that_of_the_files(
    save: Callable[..., None], told: int | None, expected: int | None, tmp_path: Path
) -> None:
    for key in FILE_OF:
        write(tmp_path, key)
    before = write_index(tmp_path, "abc", told)
    save([tmp_path])
    after = json.loads((tmp_path / INDEX).read_text())
    assert after["metadata"].get("total_size") == expected
    assert after["weight_map"] == before["weight_map"]
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *FILE_OF.values()}


@pytest.mark.parametrize("earlier", ["", "model-00001-of-00002.safetensors"])
def test_index_of_an_earlier_save_is_not_what_is_read(
    save: Callable[..., None], earlier: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for key in FILE_OF:
        write(tmp_path, key)
    write_index(tmp_path, "ab", 4)
    if earlier:
        (tmp_path / earlier).write_bytes((tmp_path / FILE_OF["a"]).read_bytes())
    with caplog.at_level(logging.WARNING):
        save([tmp_path], writes_index=False)
    after = json.loads((tmp_path / INDEX).read_text())
    assert after == {"metadata": {"total_size": 6}, "weight_map": FILE_OF}
    assert ("has shards of an earlier save: ['model-00001" in caplog.text) is bool(earlier)


def test_files_of_other_ranks_are_named(
    save: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / str(rank) for rank in range(3)]
    for folder, key in zip(folders, FILE_OF, strict=True):
        folder.mkdir()
        write(folder, key)
    write_index(folders[0], "a", 2)
    with caplog.at_level(logging.WARNING):
        save(folders, distributed_save=True)
    assert json.loads((folders[0] / INDEX).read_text()) == {
        "metadata": {"total_size": 6},
        "weight_map": FILE_OF,
    }
    assert "names 2 files that are in those of other ranks (2.safetensors...)" in caplog.text


def test_what_nobody_saved_is_not_named(save: Callable[..., None], tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
        write(folder, "a")
    before = write_index(folders[0], "a", 2)
    save(folders, distributed_save=True)
    assert json.loads((folders[0] / INDEX).read_text()) == before


def test_a_folder_without_an_index_is_left_alone(save: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path, "a")
    save([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_OF["a"]]

"""Whole checkpoints: all contradictions are named, nothing outside the folder is opened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtp_bridge_patch.headers import TensorHeader
from mtp_bridge_patch.index import INDEX_NAME, read_checkpoint, read_index
from mtp_bridge_patch.untrusted import CheckpointError

from .hypothesis_settings import unhurried
from .sharded_checkpoint import (
    FILES,
    FIRST,
    NAMES,
    SECOND,
    THIRD,
    problems,
    weight_map,
    write_index,
    write_shard,
)


def test_headers_of_a_folder_are_read(sharded: Path) -> None:
    read = read_checkpoint(sharded)
    assert read.folder == sharded
    assert read.index == read_index(sharded / INDEX_NAME)
    assert list(read.shards) == list(FILES)
    assert {file: list(shard.tensors) for file, shard in read.shards.items()} == NAMES
    assert read.shard_of == weight_map()
    assert list(read.tensors) == list(read.shard_of)
    assert read.tensors["layer.1"] == TensorHeader("BF16", (1,), 2, 4)
    assert read.total_size == 12


def test_folder_without_an_index_is_read(sharded: Path) -> None:
    (sharded / INDEX_NAME).unlink()
    (sharded / "notes.txt").write_text("no shard")
    read = read_checkpoint(sharded)
    assert read.index is None
    assert list(read.shards) == list(FILES)
    assert read.shard_of == weight_map()


def test_one_file_is_read(sharded: Path) -> None:
    read = read_checkpoint(sharded / SECOND)
    assert (read.folder, read.index, list(read.shards)) == (sharded, None, [SECOND])
    assert read.shard_of == dict.fromkeys(NAMES[SECOND], SECOND)
    (sharded / SECOND).write_bytes(b"")
    assert problems(read_checkpoint, sharded / SECOND) == ["has 0 bytes, too few for a safetensors file"]


def test_file_that_the_index_does_not_name_is_left_alone(sharded: Path) -> None:
    (sharded / "other.safetensors").write_bytes(b"no header")
    assert read_checkpoint(sharded).shard_of == weight_map()


def test_all_contradictions_are_listed_together(sharded: Path) -> None:
    changed = weight_map() | {"mtp.norm": FIRST, "absent": SECOND, "other": THIRD}
    del changed["lm_head"]
    write_index(sharded, changed)
    write_shard(sharded / THIRD, ["mtp.norm", "embed"])
    assert problems(read_checkpoint, sharded) == [
        f"embed is in {FIRST} and in {THIRD}",
        f"the index puts mtp.norm into {FIRST}, it is in {THIRD}",
        f"absent is in no shard, the index puts it into {SECOND}",
        f"other is in no shard, the index puts it into {THIRD}",
        f"lm_head of {FIRST} is not in the index",
    ]


def test_shards_that_cannot_be_read_are_listed_with_the_contradictions_of_the_others(sharded: Path) -> None:
    (sharded / SECOND).write_bytes((sharded / SECOND).read_bytes()[:-1])
    (sharded / THIRD).unlink()
    write_index(sharded, weight_map() | {"absent": FIRST})
    truncated, absent, contradiction = problems(read_checkpoint, sharded)
    assert truncated.startswith(f"{SECOND}: is truncated: ")
    assert absent == f"{THIRD}: No such file or directory"
    assert contradiction == f"absent is in no shard, the index puts it into {FIRST}"


def test_tensor_in_two_files_is_a_problem_without_an_index_too(sharded: Path) -> None:
    (sharded / INDEX_NAME).unlink()
    write_shard(sharded / "zz.safetensors", ["layer.1", "new"])
    assert problems(read_checkpoint, sharded) == [f"layer.1 is in {SECOND} and in zz.safetensors"]


def test_folder_without_safetensors_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert problems(read_checkpoint, tmp_path) == ["no safetensors file"]
    write_index(tmp_path, {})
    assert problems(read_checkpoint, tmp_path) == ["no safetensors file"]
    assert problems(read_checkpoint, tmp_path / "absent") == ["No such file or directory"]


def test_folder_without_tensors_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / FIRST, [])
    assert problems(read_checkpoint, tmp_path) == ["no tensor in any file"]


@pytest.mark.parametrize("file", [FIRST, INDEX_NAME])
def test_link_out_of_the_folder_is_refused(sharded: Path, file: str) -> None:
    (sharded / file).rename(sharded.parent / "outside")
    (sharded / file).symlink_to("../outside")
    assert problems(read_checkpoint, sharded) == [f"{file}: is outside the folder"]
    (sharded.parent / "outside").unlink()  # where it leads does not matter
    assert problems(read_checkpoint, sharded) == [f"{file}: is outside the folder"]


def test_link_to_a_folder_whose_name_begins_alike_is_refused(sharded: Path) -> None:
    (sharded.parent / "checkpoint-2").mkdir()
    (sharded / FIRST).rename(sharded.parent / "checkpoint-2" / FIRST)
    (sharded / FIRST).symlink_to(sharded.parent / "checkpoint-2" / FIRST)
    assert problems(read_checkpoint, sharded) == [f"{FIRST}: is outside the folder"]


def test_links_inside_the_folder_and_to_the_folder_are_followed(sharded: Path) -> None:
    (sharded / "blobs").mkdir()
    (sharded / FIRST).rename(sharded / "blobs" / "1")
    (sharded / FIRST).symlink_to("blobs/1")
    (sharded.parent / "link").symlink_to(sharded)
    assert read_checkpoint(sharded.parent / "link").shard_of == weight_map()


@pytest.mark.parametrize("file", [FIRST, INDEX_NAME])
def test_link_to_itself_is_refused(sharded: Path, file: str) -> None:
    (sharded / file).unlink()
    (sharded / file).symlink_to(file)
    assert problems(read_checkpoint, sharded) == [f"{file}: Too many levels of symbolic links"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("file", [FIRST, INDEX_NAME])
def test_only_regular_files_are_opened(sharded: Path, file: str, make: Callable[[Path], None]) -> None:
    (sharded / file).unlink()
    make(sharded / file)
    assert problems(read_checkpoint, sharded) == [f"{file}: is no regular file"]


def test_message_shows_file_names_without_control_characters(sharded: Path) -> None:
    (sharded / INDEX_NAME).unlink()
    Path(os.fsdecode(os.fsencode(sharded / "\x1b[2J") + b"\xff.safetensors")).touch()
    with pytest.raises(CheckpointError, match=r"'\\x1b\[2J\\udcff\.safetensors': has 0 bytes") as caught:
        read_checkpoint(sharded)
    assert str(caught.value).isprintable()


placements = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda name: name[:2] != "__"),
    st.sampled_from(FILES),
    min_size=1,
    max_size=12,
)


@unhurried
@given(placed=placements, claimed=placements)
def test_index_and_files_agree_or_every_difference_is_named(
    tmp_path_factory: pytest.TempPathFactory, placed: dict[str, str], claimed: dict[str, str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "placed"
    folder.mkdir(exist_ok=True)
    for file in FILES:
        write_shard(folder / file, [name for name, where in placed.items() if where == file])
    write_index(folder, placed)
    assert read_checkpoint(folder).shard_of == placed
    mixed = placed | claimed if len(claimed) % 2 else claimed
    write_index(folder, mixed)
    seen = set(mixed.values())  # a file that the index does not name is not looked at
    here = {name: file for name, file in placed.items() if file in seen}
    different = {name for name in mixed.keys() | here.keys() if mixed.get(name) != here.get(name)}
    if different:
        assert len(problems(read_checkpoint, folder)) == len(different)
    else:
        assert read_checkpoint(folder).shard_of == mixed

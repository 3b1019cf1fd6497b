"""Indexes and whole checkpoints: all contradictions are named, nothing outside the folder is opened."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtp_bridge_patch.headers import TensorHeader
from mtp_bridge_patch.index import INDEX_NAME, read_checkpoint, read_index
from mtp_bridge_patch.untrusted import CheckpointError

# Other processes may hold the cores meanwhile, so the time an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIRST, SECOND, THIRD = FILES = tuple(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
NAMES = {FIRST: ["embed", "lm_head"], SECOND: ["layer.0", "layer.1", "layer.2"], THIRD: ["mtp.norm"]}
"""The tensors of the tiny checkpoint below; each is two bytes."""


def write_shard(path: Path, names: Iterable[str]) -> None:
    header = {
        name: {"dtype": "BF16", "shape": [1], "data_offsets": [2 * place, 2 * place + 2]}
        for place, name in enumerate(names)
    }
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(2 * len(header)))


def write_index(folder: Path, weight_map: object, **others: object) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map, **others}))


def weight_map() -> dict[str, str]:
    return {name: file for file, names in NAMES.items() for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
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


@pytest.mark.parametrize(
    ("metadata", "total_size"),
    [
        ({"total_size": 12}, 12),
        ({"total_size": 71903645408.0}, 71903645408),
        ({"total_parameters": 6}, None),
        ({"total_size": 1.5}, None),
        ({"total_size": "12"}, None),
        ({"total_size": True}, None),
        ({}, None),
    ],
)
def test_index_is_read(folder: Path, metadata: dict[str, object], total_size: int | None) -> None:
    write_index(folder, weight_map(), metadata=metadata, other=[1])
    index = read_index(folder / INDEX_NAME)
    assert list(index.weight_map.items()) == list(weight_map().items())
    assert index.metadata == metadata
    assert index.total_size == total_size
    assert type(index.total_size) in (int, type(None))


def test_index_without_metadata_is_read(folder: Path) -> None:
    write_index(folder, weight_map())
    assert read_index(folder / INDEX_NAME).metadata == {}


def test_infinite_total_size_is_none(folder: Path) -> None:
    (folder / INDEX_NAME).write_text('{"metadata": {"total_size": 1e999}, "weight_map": {}}')
    assert read_index(folder / INDEX_NAME).total_size is None


NOT_PLAIN = {
    "a": "../outside.safetensors",
    "b": "/etc/outside.safetensors",
    "c": "below/inside.safetensors",
    "d": "below\\inside.safetensors",
    "e": "..",
    "f": ".",
    "g": "",
    "h": "nul\0.safetensors",
    "i": "./" + FIRST,
    "j": FIRST + "/",
    "k": 1,
    "l": None,
    "m": [FIRST],
    "n": {"file": FIRST},
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_file_name_that_is_not_plain_is_refused(folder: Path, name: str) -> None:
    write_index(folder, {**weight_map(), name: NOT_PLAIN[name]})
    [problem] = problems(read_index, folder / INDEX_NAME)
    assert problem.startswith(f"the file of {name} is no plain file name: ")
    # The folder is as it should be otherwise, and the tensors of the other entries are found.
    assert problems(read_checkpoint, folder) == [f"{INDEX_NAME}: {problem}"]


def test_file_names_that_are_not_plain_are_listed_together(folder: Path) -> None:
    write_index(folder, weight_map() | NOT_PLAIN)
    assert len(problems(read_index, folder / INDEX_NAME)) == len(NOT_PLAIN)
    with pytest.raises(CheckpointError, match=r"14 problems: .*\.\./outside\.safetensors.*; \.\.\.$"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no JSON: Expecting value"),
        ("[]", "is no JSON object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": 1}', "has no weight_map"),
        ('{"weight_map": null}', "has no weight_map"),
        ('{"weight_map": {}, "metadata": 1}', "its metadata is no JSON object"),
        ('{"weight_map": {}, "metadata": {"total_size": NaN}}', "NaN is no JSON number"),
        (f'{{"weight_map": {{"a": "{FIRST}", "a": "{SECOND}"}}}}', "key a occurs twice"),
        ('{"weight_map": {}, "weight_map": {}}', "key weight_map occurs twice"),
        ('{"weight_map": {"a\\ud800": "b"}}', "half a surrogate pair"),
        ('{"weight_map": {"a": "\\udc2e"}}', "half a surrogate pair"),
        ('{"weight_map":' * 100_000, "nested too deeply"),
        ('{"metadata": {"total_size": ' + "9" * 5000 + "}}", "Exceeds the limit"),
    ],
)
def test_malformed_index_is_refused(folder: Path, text: str, problem: str) -> None:
    (folder / INDEX_NAME).write_text(text)
    [found] = problems(read_index, folder / INDEX_NAME)
    assert problem in found
    assert problem in problems(read_checkpoint, folder)[0]


def test_index_over_the_limit_is_not_read(folder: Path) -> None:
    os.truncate(folder / INDEX_NAME, 100_000_001)
    tracemalloc.start()
    try:
        found = problems(read_index, folder / INDEX_NAME)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert found == ["its 100000001 bytes are over the limit of 100000000"]


@unhurried
@given(content=st.binary(max_size=80) | st.text(alphabet='{}[]":,\\u019ad weight_mapto/.', max_size=80))
def test_any_bytes_are_an_index_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    encoded = content.encode() if isinstance(content, str) else content
    for raw in (encoded, b'{"weight_map": ' + encoded + b"}", b'{"weight_map": {"a": ' + encoded + b"}}"):
        path.write_bytes(raw)
        try:
            index = read_index(path)
        except CheckpointError as error:
            assert error.problems  # noqa: PT017 (it may be read as well)
            continue
        for file in index.weight_map.values():
            assert (path.parent / file).parent == path.parent
            assert os.path.normpath(path.parent / file) == str(path.parent / file) != str(path.parent)


def test_headers_of_a_folder_are_read(folder: Path) -> None:
    read = read_checkpoint(folder)
    assert read.folder == folder
    assert read.index == read_index(folder / INDEX_NAME)
    assert list(read.shards) == list(FILES)
    assert {file: list(shard.tensors) for file, shard in read.shards.items()} == NAMES
    assert read.shard_of == weight_map()
    assert list(read.tensors) == list(read.shard_of)
    assert read.tensors["layer.1"] == TensorHeader("BF16", (1,), 2, 4)
    assert read.total_size == 12


def test_folder_without_an_index_is_read(folder: Path) -> None:
    (folder / INDEX_NAME).unlink()
    (folder / "notes.txt").write_text("no shard")
    read = read_checkpoint(folder)
    assert read.index is None
    assert list(read.shards) == list(FILES)
    assert read.shard_of == weight_map()


def test_one_file_is_read(folder: Path) -> None:
    read = read_checkpoint(folder / SECOND)
    assert (read.folder, read.index, list(read.shards)) == (folder, None, [SECOND])
    assert read.shard_of == dict.fromkeys(NAMES[SECOND], SECOND)
    (folder / SECOND).write_bytes(b"")
    assert problems(read_checkpoint, folder / SECOND) == ["has 0 bytes, too few for a safetensors file"]


def test_file_that_the_index_does_not_name_is_left_alone(folder: Path) -> None:
    (folder / "other.safetensors").write_bytes(b"no header")
    assert read_checkpoint(folder).shard_of == weight_map()


def test_all_contradictions_are_listed_together(folder: Path) -> None:
    changed = weight_map() | {"mtp.norm": FIRST, "absent": SECOND, "other": THIRD}
    del changed["lm_head"]
    write_index(folder, changed)
    write_shard(folder / THIRD, ["mtp.norm", "embed"])
    assert problems(read_checkpoint, folder) == [
        f"embed is in {FIRST} and in {THIRD}",
        f"the index puts mtp.norm into {FIRST}, it is in {THIRD}",
        f"absent is in no shard, the index puts it into {SECOND}",
        f"other is in no shard, the index puts it into {THIRD}",
        f"lm_head of {FIRST} is not in the index",
    ]


def test_shards_that_cannot_be_read_are_listed_with_the_contradictions_of_the_others(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-1])
    (folder / THIRD).unlink()
    write_index(folder, weight_map() | {"absent": FIRST})
    truncated, absent, contradiction = problems(read_checkpoint, folder)
    assert truncated.startswith(f"{SECOND}: is truncated: ")
    assert absent == f"{THIRD}: No such file or directory"
    assert contradiction == f"absent is in no shard, the index puts it into {FIRST}"


def test_tensor_in_two_files_is_a_problem_without_an_index_too(folder: Path) -> None:
    (folder / INDEX_NAME).unlink()
    write_shard(folder / "zz.safetensors", ["layer.1", "new"])
    assert problems(read_checkpoint, folder) == [f"layer.1 is in {SECOND} and in zz.safetensors"]


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
def test_link_out_of_the_folder_is_refused(folder: Path, file: str) -> None:
    (folder / file).rename(folder.parent / "outside")
    (folder / file).symlink_to("../outside")
    assert problems(read_checkpoint, folder) == [f"{file}: is outside the folder"]
    (folder.parent / "outside").unlink()  # where it leads does not matter
    assert problems(read_checkpoint, folder) == [f"{file}: is outside the folder"]


def test_link_to_a_folder_whose_name_begins_alike_is_refused(folder: Path) -> None:
    (folder.parent / "checkpoint-2").mkdir()
    (folder / FIRST).rename(folder.parent / "checkpoint-2" / FIRST)
    (folder / FIRST).symlink_to(folder.parent / "checkpoint-2" / FIRST)
    assert problems(read_checkpoint, folder) == [f"{FIRST}: is outside the folder"]


def test_links_inside_the_folder_and_to_the_folder_are_followed(folder: Path) -> None:
    (folder / "blobs").mkdir()
    (folder / FIRST).rename(folder / "blobs" / "1")
    (folder / FIRST).symlink_to("blobs/1")
    (folder.parent / "link").symlink_to(folder)
    assert read_checkpoint(folder.parent / "link").shard_of == weight_map()


@pytest.mark.parametrize("file", [FIRST, INDEX_NAME])
def test_link_to_itself_is_refused(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).symlink_to(file)
    assert problems(read_checkpoint, folder) == [f"{file}: Too many levels of symbolic links"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("file", [FIRST, INDEX_NAME])
def test_only_regular_files_are_opened(folder: Path, file: str, make: Callable[[Path], None]) -> None:
    (folder / file).unlink()
    make(folder / file)
    assert problems(read_checkpoint, folder) == [f"{file}: is no regular file"]


def test_message_shows_file_names_without_control_characters(folder: Path) -> None:
    (folder / INDEX_NAME).unlink()
    Path(os.fsdecode(os.fsencode(folder / "\x1b[2J") + b"\xff.safetensors")).touch()
    with pytest.raises(CheckpointError, match=r"'\\x1b\[2J\\udcff\.safetensors': has 0 bytes") as caught:
        read_checkpoint(folder)
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

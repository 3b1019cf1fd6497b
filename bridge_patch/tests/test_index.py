"""Indexes: what is read, and what is refused before a file is opened."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtp_bridge_patch.index import INDEX_NAME, read_checkpoint, read_index
from mtp_bridge_patch.untrusted import CheckpointError

from .hypothesis_settings import unhurried
from .sharded_checkpoint import FIRST, SECOND, problems, weight_map, write_index


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
def test_index_is_read(sharded: Path, metadata: dict[str, object], total_size: int | None) -> None:
    write_index(sharded, weight_map(), metadata=metadata, other=[1])
    index = read_index(sharded / INDEX_NAME)
    assert list(index.weight_map.items()) == list(weight_map().items())
    assert index.metadata == metadata
    assert index.total_size == total_size
    assert type(index.total_size) in (int, type(None))


def test_index_without_metadata_is_read(sharded: Path) -> None:
    write_index(sharded, weight_map())
    assert read_index(sharded / INDEX_NAME).metadata == {}


def test_infinite_total_size_is_none(sharded: Path) -> None:
    (sharded / INDEX_NAME).write_text('{"metadata": {"total_size": 1e999}, "weight_map": {}}')
    assert read_index(sharded / INDEX_NAME).total_size is None


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
def test_file_name_that_is_not_plain_is_refused(sharded: Path, name: str) -> None:
    write_index(sharded, {**weight_map(), name: NOT_PLAIN[name]})
    [problem] = problems(read_index, sharded / INDEX_NAME)
    assert problem.startswith(f"the file of {name} is no plain file name: ")
    # The folder is as it should be otherwise, and the tensors of the other entries are found.
    assert problems(read_checkpoint, sharded) == [f"{INDEX_NAME}: {problem}"]


def test_file_names_that_are_not_plain_are_listed_together(sharded: Path) -> None:
    write_index(sharded, weight_map() | NOT_PLAIN)
    assert len(problems(read_index, sharded / INDEX_NAME)) == len(NOT_PLAIN)
    with pytest.raises(CheckpointError, match=r"14 problems: .*\.\./outside\.safetensors.*; \.\.\.$"):
        read_checkpoint(sharded)


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
def test_malformed_index_is_refused(sharded: Path, text: str, problem: str) -> None:
    (sharded / INDEX_NAME).write_text(text)
    [found] = problems(read_index, sharded / INDEX_NAME)
    assert problem in found
    assert problem in problems(read_checkpoint, sharded)[0]


def test_index_over_the_limit_is_not_read(sharded: Path) -> None:
    os.truncate(sharded / INDEX_NAME, 100_000_001)
    tracemalloc.start()
    try:
        found = problems(read_index, sharded / INDEX_NAME)
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

"""Headers of single files: what is read, and how problems are named."""

import json
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from mtp_bridge_patch.headers import DTYPE_BITS, TensorHeader, read_header
from mtp_bridge_patch.untrusted import CheckpointError

from .header_files import EIGHT, ENTRY, file_bytes, problems, reads, safetensors_reads


def test_all_of_a_header_is_read(shard: Path) -> None:
    header = {
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "none": {"dtype": "I64", "shape": [5, 0], "data_offsets": [4, 4]},
    }
    shard.write_bytes(file_bytes(json.dumps(header) + "   ", bytes(16)))
    read = read_header(shard)
    assert list(read.tensors.items()) == [
        ("b", TensorHeader(dtype="BF16", shape=(2, 3), begin=4, end=16)),
        ("a", TensorHeader(dtype="F32", shape=(), begin=0, end=4)),
        ("none", TensorHeader(dtype="I64", shape=(5, 0), begin=4, end=4)),
    ]
    assert read.metadata == {"format": "pt"}
    assert read.data_start == 8 + len(json.dumps(header)) + 3
    assert read.data_size == 16


def test_file_without_tensors_is_read(shard: Path) -> None:
    shard.write_bytes(file_bytes("{}"))
    read = read_header(shard)
    assert (read.tensors, read.metadata, read.data_start, read.data_size) == ({}, None, 10, 0)


def test_dtypes_are_those_of_safetensors(shard: Path) -> None:
    shard.write_bytes(file_bytes('{"a":{"dtype":"none","shape":[2],"data_offsets":[0,8]}}', EIGHT))
    with pytest.raises(SafetensorError) as caught:
        safe_open(shard, framework="numpy")
    assert set(re.findall(r"`(\w+)`", str(caught.value))) == {"none", *DTYPE_BITS}


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_element_sizes_are_those_of_safetensors(shard: Path, dtype: str) -> None:
    taken = []
    for size in range(1, 66):  # of eight elements: as many bytes as one has bits
        entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}
        shard.write_bytes(file_bytes({"a": entry}, bytes(size)))
        assert reads(shard) == safetensors_reads(shard)
        taken += [size] * (reads(shard) is not None)
    assert taken == [DTYPE_BITS[dtype]]


def test_gaps_and_overlaps_name_the_tensors(shard: Path) -> None:
    spans = {"d": (16, 20), "a": (0, 8), "b": (4, 8), "c": (6, 10)}
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in spans.items()
    }
    shard.write_bytes(file_bytes(header, bytes(21)))
    assert problems(shard) == [
        "b overlaps a",
        "c overlaps b",
        "6 bytes before d belong to no tensor",
        "1 bytes at the end belong to no tensor",
    ]


def test_every_wrong_tensor_is_listed(shard: Path) -> None:
    wrong = {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}
    header = {f"layer.{number}": wrong for number in range(7)} | {"__metadata__": 1, "right": {}}
    header["right"] = {"dtype": "U8", "shape": [100], "data_offsets": [8, 108]}
    shard.write_bytes(file_bytes(header, EIGHT))
    found = problems(shard)
    assert found[0] == "__metadata__ is no map of strings to strings"
    assert [text.split(":")[0] for text in found[1:8]] == [f"layer.{number}" for number in range(7)]
    assert found[8].startswith("is truncated")
    assert len(found) == 9


def test_message_counts_the_problems_and_shows_the_first() -> None:
    error = CheckpointError("folder", [f"problem {number}" for number in range(6)])
    assert str(error) == "folder: 6 problems: problem 0; problem 1; problem 2; problem 3; problem 4; ..."
    assert str(CheckpointError("folder", ["one"])) == "folder: 1 problem: one"


def test_message_is_short_and_holds_no_control_characters(shard: Path) -> None:
    header = {"\x1b[2J\r" + "a" * 10_000: 0, "b" * 10_000: 0, "\u202e": 0}
    shard.write_bytes(file_bytes(header))
    with pytest.raises(CheckpointError) as caught:
        read_header(shard)
    assert str(caught.value).isprintable()
    assert "'\\x1b[2J\\raaa" in str(caught.value)
    assert len(str(caught.value)) < 800 + len(str(shard))


def test_truncated_file_is_named_with_both_sizes(shard: Path) -> None:
    whole = file_bytes(f'{{"a":{{{ENTRY}}}}}', EIGHT)
    for size in range(len(whole)):
        shard.write_bytes(whole[:size])
        [problem] = problems(shard)
        assert re.search(rf"\b{size}\b", problem)
        if size >= len(whole) - 8:
            assert problem == f"is truncated: its header describes {len(whole)} bytes, it has {size}"
    shard.write_bytes(whole)
    assert reads(shard) == {"a": ("F32", (2,))}

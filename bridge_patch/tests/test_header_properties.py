"""Any header is judged as safetensors judges it, and nothing but a problem is ever raised."""

import json
import re
import struct
from math import prod
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mtp_bridge_patch.headers import DTYPE_BITS, read_header

from .header_files import ENTRY, file_bytes, problems, reads, safetensors_reads
from .hypothesis_settings import unhurried

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name[:2] != "__")


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """The header of a valid file, in any order, and the size of its data."""
    entries: list[tuple[str, object]] = []
    begin = 0
    for name in draw(st.lists(names, unique=True, max_size=5)):
        dtype = draw(st.sampled_from(sorted(DTYPE_BITS)))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        if prod(shape) * DTYPE_BITS[dtype] % 8:
            shape.append(8)
        end = begin + prod(shape) * DTYPE_BITS[dtype] // 8
        entries.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}))
        begin = end
    if draw(st.booleans()):
        entries.append(("__metadata__", draw(st.dictionaries(names, names, max_size=2))))
    return dict(draw(st.permutations(entries))), begin


@unhurried
@given(document=documents(), padding=st.integers(0, 9), escaped=st.booleans())
def test_valid_files_are_read_as_safetensors_reads_them(
    shard: Path, document: tuple[dict[str, Any], int], padding: int, escaped: bool
) -> None:
    header, size = document
    shard.write_bytes(file_bytes(json.dumps(header, ensure_ascii=escaped) + " " * padding, bytes(size)))
    read = read_header(shard)
    metadata = header.pop("__metadata__", None)
    assert read.metadata == metadata
    assert read.tensors == {
        name: (found["dtype"], tuple(found["shape"]), *found["data_offsets"])
        for name, found in header.items()
    }
    assert reads(shard) == safetensors_reads(shard)


# What the docstring of the module says of the differences, as far as mutations can make them.
REFUSED_HERE = re.compile(r"occurs twice|does not begin with \{|entry is no JSON object|dtype is no string")
TAKEN_HERE = re.compile(rb"-0|[eE]\+?\d{3}|\d{309}")


def compare_with_safetensors(shard: Path, content: bytes) -> None:
    shard.write_bytes(content)
    here, there = reads(shard), safetensors_reads(shard)
    if here is None and there is not None:
        assert all(REFUSED_HERE.search(problem) for problem in problems(shard))
    elif here is not None and there is None:
        assert TAKEN_HERE.search(content)
    else:
        assert here == there


VALUES = [
    *("null", "true", "0", "1", "-1", "2", "8", "-0", "1.0", "1e2", "1e999", "NaN", str(2**63), str(2**64)),
    *('""', '"F32"', '"BF16"', '"F4"', '"\\ud800"', '{"F32":null}', "[]", "[0]", "[0,0]", "[8,0]", "{}"),
    *("[2,2,2]", "[1,true]", '["F32",[0],[0,0]]', '{"a":"b","a":"b"}', "9" * 400, "9" * 5000, "[" * 99),
]
MARK = "(here)"


@unhurried
@given(data=st.data())
def test_headers_with_odd_values_are_judged_as_safetensors_judges_them(
    shard: Path, data: st.DataObject
) -> None:
    header, size = data.draw(documents())
    place: Any = header
    while True:  # go down to any depth, and put something odd there
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from([*keys, None])) if keys else None
        if key is None:
            if isinstance(place, list):
                place.append(MARK)
            else:
                place[data.draw(st.sampled_from(["new", "dtype", "__metadata__", ""]))] = MARK
            break
        if not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            place[key] = MARK
            break
        place = place[key]
    text = json.dumps(header).replace(f'"{MARK}"', data.draw(st.sampled_from(VALUES)))
    compare_with_safetensors(shard, file_bytes(text, bytes(size + data.draw(st.sampled_from([0, 0, 0, 8])))))


FRAGMENTS = [
    *b'{}[]",:-0189 e.\\u\x00\xff',
    *[text.encode() for text in (*VALUES, ENTRY, '"a":', "__metadata__")],
]


@unhurried
@given(data=st.data())
def test_damaged_files_are_judged_as_safetensors_judges_them(shard: Path, data: st.DataObject) -> None:
    header, size = data.draw(documents())
    encoded = bytearray(json.dumps(header).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(encoded)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 1, 2, 20]))
        fragment = data.draw(st.sampled_from([b"", bytes(encoded[begin:end]) * 2, *FRAGMENTS]))
        encoded[begin:end] = bytes([fragment]) if isinstance(fragment, int) else fragment
    length = len(encoded) + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1, 8]))
    content = struct.pack("<Q", max(length, 0)) + bytes(encoded) + bytes(size)
    compare_with_safetensors(shard, content[: len(content) - data.draw(st.sampled_from([0, 0, 0, 1, 9]))])


@unhurried
@given(header=st.binary(max_size=60), data=st.binary(max_size=20), length=st.none() | st.integers(0, 90))
def test_any_bytes_are_read_or_refused(shard: Path, header: bytes, data: bytes, length: int | None) -> None:
    prefix = struct.pack("<Q", len(header) if length is None else length)
    compare_with_safetensors(shard, prefix + header + data)
    compare_with_safetensors(shard, header)

"""Headers of single files: taken and refused as safetensors does, and nothing else is ever raised."""

import json
import os
import re
import signal
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from mtp_bridge_patch.headers import DTYPE_BITS, TensorHeader, read_header
from mtp_bridge_patch.untrusted import CheckpointError

# Other processes may hold the cores meanwhile, so the time an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ENTRY = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
EIGHT = bytes(range(8))

Read = dict[str, tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers") / "model.safetensors"


def file_bytes(header: object, data: bytes = b"") -> bytes:
    encoded = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def problems(path: Path) -> list[str]:
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    return caught.value.problems


def safetensors_reads(path: Path) -> Read | None:
    """Return what safetensors' own reader finds; None where it refuses the file."""
    try:
        file = safe_open(path, framework="numpy")
    except (SafetensorError, OSError):
        return None
    with file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def reads(path: Path) -> Read | None:
    try:
        header = read_header(path)
    except CheckpointError:
        return None
    return {name: (tensor.dtype, tensor.shape) for name, tensor in header.tensors.items()}


def test_all_of_a_header_is_read(path: Path) -> None:
    header = {
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4, 16]},
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "none": {"dtype": "I64", "shape": [5, 0], "data_offsets": [4, 4]},
    }
    path.write_bytes(file_bytes(json.dumps(header) + "   ", bytes(16)))
    read = read_header(path)
    assert list(read.tensors.items()) == [
        ("b", TensorHeader(dtype="BF16", shape=(2, 3), begin=4, end=16)),
        ("a", TensorHeader(dtype="F32", shape=(), begin=0, end=4)),
        ("none", TensorHeader(dtype="I64", shape=(5, 0), begin=4, end=4)),
    ]
    assert read.metadata == {"format": "pt"}
    assert read.data_start == 8 + len(json.dumps(header)) + 3
    assert read.data_size == 16


def test_file_without_tensors_is_read(path: Path) -> None:
    path.write_bytes(file_bytes("{}"))
    read = read_header(path)
    assert (read.tensors, read.metadata, read.data_start, read.data_size) == ({}, None, 10, 0)


def test_dtypes_are_those_of_safetensors(path: Path) -> None:
    path.write_bytes(file_bytes('{"a":{"dtype":"none","shape":[2],"data_offsets":[0,8]}}', EIGHT))
    with pytest.raises(SafetensorError) as caught:
        safe_open(path, framework="numpy")
    assert set(re.findall(r"`(\w+)`", str(caught.value))) == {"none", *DTYPE_BITS}


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_element_sizes_are_those_of_safetensors(path: Path, dtype: str) -> None:
    taken = []
    for size in range(1, 66):  # of eight elements: as many bytes as one has bits
        entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, size]}
        path.write_bytes(file_bytes({"a": entry}, bytes(size)))
        assert reads(path) == safetensors_reads(path)
        taken += [size] * (reads(path) is not None)
    assert taken == [DTYPE_BITS[dtype]]


TAKEN = [
    pytest.param(f'{{"a":{{{ENTRY}}}}}', id="plain"),
    pytest.param(f'{{"a":{{{ENTRY}}}}} \n\t\r', id="white space at the end"),
    pytest.param(f'{{"":{{{ENTRY}}}}}', id="empty name"),
    pytest.param(f'{{"\\ud83d\\ude00 \\\\u":{{{ENTRY}}}}}', id="surrogate pair"),
    pytest.param(f'{{"a":{{{ENTRY},"other":[1.5,null]}}}}', id="unknown field"),
    pytest.param(f'{{"__metadata__":null,"a":{{{ENTRY}}}}}', id="null metadata"),
    pytest.param(f'{{"__metadata__":{{}},"a":{{{ENTRY}}}}}', id="empty metadata"),
    pytest.param('{"a":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}}', id="4-bit dtype"),
    pytest.param(
        f'{{"a":{{"dtype":"U8","shape":[{"1," * 99}8],"data_offsets":[0,8]}}}}', id="100 dimensions"
    ),
    pytest.param(
        f'{{"z":{{"dtype":"F64","shape":[0,{2**63},2],"data_offsets":[0,0]}},"a":{{{ENTRY}}}}}',
        id="large dimension of nothing",
    ),
    pytest.param(
        f'{{"a":{{{ENTRY}}},"z":{{"dtype":"F64","shape":[0],"data_offsets":[8,8]}}}}', id="nothing at the end"
    ),
]


@pytest.mark.parametrize("header", TAKEN)
def test_what_safetensors_takes_is_taken(path: Path, header: str) -> None:
    path.write_bytes(file_bytes(header, EIGHT))
    found = safetensors_reads(path)
    assert found is not None
    assert reads(path) == found


def entry(dtype: object = "F32", shape: object = (2,), data_offsets: object = (0, 8)) -> str:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}})


REFUSED = [
    ("", "does not begin with {"),
    (f'[{{"a":{{{ENTRY}}}}}]', "does not begin with {"),
    (f'\ufeff{{"a":{{{ENTRY}}}}}', "does not begin with {"),
    (f'{{"a":{{{ENTRY}}}', "is no JSON: Expecting ',' delimiter"),
    (f'{{"a":{{{ENTRY}}}}}\0', "is no JSON: Extra data"),
    (f"{{'a':{{{ENTRY}}}}}", "is no JSON"),
    (f'{{"a\n":{{{ENTRY}}}}}', "is no JSON: Invalid control character"),
    (f'{{"a":{{{ENTRY},"other":NaN}}}}', "NaN is no JSON number"),
    (f'{{"a":{{{ENTRY},"other":-Infinity}}}}', "-Infinity is no JSON number"),
    (f'{{"a":{{{ENTRY},"other":{"9" * 5000}}}}}', "Exceeds the limit"),
    (f'{{"a":{{{ENTRY},"other":{"[" * 200_000}', "nested too deeply"),
    (f'{{"a":{{{ENTRY},"other":{"{" + chr(34) + "a" + chr(34) + ":"}', "is no JSON"),
    ('{"a":' * 200_000, "nested too deeply"),
    (f'{{"a\\ud83d":{{{ENTRY}}}}}', "half a surrogate pair"),
    (f'{{"a":{{{ENTRY},"other":"\\uDE00"}}}}', "half a surrogate pair"),
    (f'{{"a":{{{ENTRY},"shape":[2]}}}}', "key shape occurs twice"),
    (f'{{"__metadata__":{{}},"a":{{{ENTRY}}},"__metadata__":{{}}}}', "key __metadata__ occurs twice"),
    (f'{{"__metadata__":{{"a":1}},"a":{{{ENTRY}}}}}', "__metadata__ is no map of strings"),
    (f'{{"__metadata__":["a"],"a":{{{ENTRY}}}}}', "__metadata__ is no map of strings"),
    ('{"a":null}', "a: its entry is no JSON object"),
    ("{}", "8 bytes at the end belong to no tensor"),
    (entry(dtype="F33"), "a: its dtype F33 is unknown"),
    (entry(dtype="f32"), "a: its dtype f32 is unknown"),
    (entry(dtype=None), "a: its dtype is no string"),
    (entry(dtype=["F32"]), "a: its dtype is no string"),
    (entry(shape=None), "a: its shape is no list"),
    (entry(shape=2), "a: its shape is no list"),
    (entry(shape=[2.0]), "a: its shape holds something else than sizes"),
    (entry(shape=[-2, -1]), "a: its shape holds something else than sizes"),
    (entry(shape=[True, 2]), "a: its shape holds something else than sizes"),
    (entry(shape=["2"]), "a: its shape holds something else than sizes"),
    (entry(shape=[0, 2**64], data_offsets=[0, 0]), "a: its shape holds something else than sizes"),
    (entry(shape=[2**63, 2, 0], data_offsets=[0, 0]), "a: its shape has too many elements"),
    (entry(shape=[3]), "a: its 3 elements of F32 are 12 bytes, its data has 8"),
    (entry(shape=[]), "a: its 1 elements of F32 are 4 bytes, its data has 8"),
    (entry(dtype="F4", shape=[15]), "a: its 15 elements of F4 end within a byte"),
    (entry(data_offsets=None), "a: its data_offsets are no pair"),
    (entry(data_offsets=[0]), "a: its data_offsets are no pair"),
    (entry(data_offsets=[0, 8, 8]), "a: its data_offsets are no pair"),
    (entry(data_offsets=[8, 0]), "a: its data_offsets are no range"),
    (entry(data_offsets=[-8, 0]), "a: its data_offsets are no range"),
    (entry(data_offsets=[False, 8]), "a: its data_offsets are no range"),
    (entry(data_offsets=[0, 8.0]), "a: its data_offsets are no range"),
    (entry(data_offsets=[2**64, 2**64 + 8]), "a: its data_offsets are no range"),
    (entry(shape=[1], data_offsets=[0, 4]), "4 bytes at the end belong to no tensor"),
    (entry(shape=[1], data_offsets=[4, 8]), "4 bytes before a belong to no tensor"),
]


@pytest.mark.parametrize(("header", "problem"), REFUSED)
def test_what_safetensors_refuses_is_refused(path: Path, header: str, problem: str) -> None:
    path.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(path) is None
    [found] = problems(path)
    assert problem in found


def test_header_that_is_not_utf8_is_refused(path: Path) -> None:
    path.write_bytes(file_bytes(f'{{"aé":{{{ENTRY}}}}}', EIGHT).replace(b"\xc3\xa9", b"\xe9\xe9"))
    assert safetensors_reads(path) is None
    assert problems(path) == ["is not UTF-8 at byte 3"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (f'{{"a":{{{ENTRY}}},"a":{{{ENTRY}}}}}', "key a occurs twice"),
        (f'{{"a":{{{ENTRY},"other":1,"other":2}}}}', "key other occurs twice"),
        (f'{{"__metadata__":{{"b":"1","b":"2"}},"a":{{{ENTRY}}}}}', "key b occurs twice"),
        (f' {{"a":{{{ENTRY}}}}}', "its header does not begin with {"),
        ('{"a":["F32",[2],[0,8]]}', "a: its entry is no JSON object"),
        ('{"a":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}', "a: its dtype is no string"),
    ],
)
def test_what_the_format_forbids_is_refused_though_safetensors_takes_it(
    path: Path, header: str, problem: str
) -> None:
    path.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(path) == {"a": ("F32", (2,))}
    assert problems(path) == [problem]


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}',
        f'{{"a":{{{ENTRY},"other":1e999}}}}',
        f'{{"a":{{{ENTRY},"other":{"9" * 400}}}}}',
        f'{{"a":{{{ENTRY},"other":{"[" * 127 + "]" * 127}}}}}',
    ],
)
def test_what_safetensors_refuses_and_the_format_does_not_is_taken(path: Path, header: str) -> None:
    path.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(path) is None
    assert read_header(path).tensors == {"a": TensorHeader("F32", (2,), 0, 8)}


def test_gaps_and_overlaps_name_the_tensors(path: Path) -> None:
    spans = {"d": (16, 20), "a": (0, 8), "b": (4, 8), "c": (6, 10)}
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in spans.items()
    }
    path.write_bytes(file_bytes(header, bytes(21)))
    assert problems(path) == [
        "b overlaps a",
        "c overlaps b",
        "6 bytes before d belong to no tensor",
        "1 bytes at the end belong to no tensor",
    ]


def test_every_wrong_tensor_is_listed(path: Path) -> None:
    wrong = {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}
    header = {f"layer.{number}": wrong for number in range(7)} | {"__metadata__": 1, "right": {}}
    header["right"] = {"dtype": "U8", "shape": [100], "data_offsets": [8, 108]}
    path.write_bytes(file_bytes(header, EIGHT))
    found = problems(path)
    assert found[0] == "__metadata__ is no map of strings to strings"
    assert [text.split(":")[0] for text in found[1:8]] == [f"layer.{number}" for number in range(7)]
    assert found[8].startswith("is truncated")
    assert len(found) == 9


def test_message_counts_the_problems_and_shows_the_first() -> None:
    error = CheckpointError("folder", [f"problem {number}" for number in range(6)])
    assert str(error) == "folder: 6 problems: problem 0; problem 1; problem 2; problem 3; problem 4; ..."
    assert str(CheckpointError("folder", ["one"])) == "folder: 1 problem: one"


def test_message_is_short_and_holds_no_control_characters(path: Path) -> None:
    header = {"\x1b[2J\r" + "a" * 10_000: 0, "b" * 10_000: 0, "\u202e": 0}
    path.write_bytes(file_bytes(header))
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert str(caught.value).isprintable()
    assert "'\\x1b[2J\\raaa" in str(caught.value)
    assert len(str(caught.value)) < 800 + len(str(path))


def test_truncated_file_is_named_with_both_sizes(path: Path) -> None:
    whole = file_bytes(f'{{"a":{{{ENTRY}}}}}', EIGHT)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        [problem] = problems(path)
        assert re.search(rf"\b{size}\b", problem)
        if size >= len(whole) - 8:
            assert problem == f"is truncated: its header describes {len(whole)} bytes, it has {size}"
    path.write_bytes(whole)
    assert reads(path) == {"a": ("F32", (2,))}


@contextmanager
def little_memory(limit: int = 100_000) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [95, 1 << 31, 1 << 60, (1 << 64) - 1])
def test_header_longer_than_the_file_takes_no_memory(path: Path, length: int) -> None:
    path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 93)
    with little_memory():
        [problem] = problems(path)
    assert f"{length} bytes of header in a file of 102" in problem


def test_header_over_the_limit_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{}")
        file.truncate(100_000_009)
    assert safetensors_reads(path) is None
    with little_memory():
        [problem] = problems(path)
    assert "over the limit of 100000000" in problem


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_no_data_is_read(path: Path) -> None:
    size = 1 << 34
    header = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    path.write_bytes(file_bytes(header))
    os.truncate(path, path.stat().st_size + size)  # a hole, which takes no disk
    before = bytes_read()
    assert read_header(path).data_size == size
    assert bytes_read() - before < 10_000  # of 17 GB; other threads of the test run read a little


@contextmanager
def seconds_at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"it took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    SPECIAL[kind](path)
    with seconds_at_most(20):
        assert problems(path) == ["is no regular file"]


def test_absent_file_and_loop_of_links_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert problems(path) == ["No such file or directory"]
    path.symlink_to(path)
    assert problems(path) == ["Too many levels of symbolic links"]


def test_long_shape_takes_linear_time(path: Path) -> None:
    header = {"a": {"dtype": "U8", "shape": [2**60] * 200_000, "data_offsets": [0, 0]}}
    path.write_bytes(file_bytes(header))
    with seconds_at_most(20):
        assert problems(path) == ["a: its shape has too many elements"]


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
    path: Path, document: tuple[dict[str, Any], int], padding: int, escaped: bool
) -> None:
    header, size = document
    path.write_bytes(file_bytes(json.dumps(header, ensure_ascii=escaped) + " " * padding, bytes(size)))
    read = read_header(path)
    metadata = header.pop("__metadata__", None)
    assert read.metadata == metadata
    assert read.tensors == {
        name: (found["dtype"], tuple(found["shape"]), *found["data_offsets"])
        for name, found in header.items()
    }
    assert reads(path) == safetensors_reads(path)


# What the docstring of the module says of the differences, as far as mutations can make them.
REFUSED_HERE = re.compile(r"occurs twice|does not begin with \{|entry is no JSON object|dtype is no string")
TAKEN_HERE = re.compile(rb"-0|[eE]\+?\d{3}|\d{309}")


def compare_with_safetensors(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    here, there = reads(path), safetensors_reads(path)
    if here is None and there is not None:
        assert all(REFUSED_HERE.search(problem) for problem in problems(path))
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
    path: Path, data: st.DataObject
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
    compare_with_safetensors(path, file_bytes(text, bytes(size + data.draw(st.sampled_from([0, 0, 0, 8])))))


FRAGMENTS = [
    *b'{}[]",:-0189 e.\\u\x00\xff',
    *[text.encode() for text in (*VALUES, ENTRY, '"a":', "__metadata__")],
]


@unhurried
@given(data=st.data())
def test_damaged_files_are_judged_as_safetensors_judges_them(path: Path, data: st.DataObject) -> None:
    header, size = data.draw(documents())
    encoded = bytearray(json.dumps(header).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(encoded)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 1, 2, 20]))
        fragment = data.draw(st.sampled_from([b"", bytes(encoded[begin:end]) * 2, *FRAGMENTS]))
        encoded[begin:end] = bytes([fragment]) if isinstance(fragment, int) else fragment
    length = len(encoded) + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1, 8]))
    content = struct.pack("<Q", max(length, 0)) + bytes(encoded) + bytes(size)
    compare_with_safetensors(path, content[: len(content) - data.draw(st.sampled_from([0, 0, 0, 1, 9]))])


@unhurried
@given(header=st.binary(max_size=60), data=st.binary(max_size=20), length=st.none() | st.integers(0, 90))
def test_any_bytes_are_read_or_refused(path: Path, header: bytes, data: bytes, length: int | None) -> None:
    prefix = struct.pack("<Q", len(header) if length is None else length)
    compare_with_safetensors(path, prefix + header + data)
    compare_with_safetensors(path, header)

"""Headers are taken and refused as safetensors does, but for what the format says otherwise."""

import json
from pathlib import Path

import pytest

from mtp_bridge_patch.headers import TensorHeader, read_header

from .header_files import EIGHT, ENTRY, file_bytes, problems, reads, safetensors_reads

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
def test_what_safetensors_takes_is_taken(shard: Path, header: str) -> None:
    shard.write_bytes(file_bytes(header, EIGHT))
    found = safetensors_reads(shard)
    assert found is not None
    assert reads(shard) == found


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
def test_what_safetensors_refuses_is_refused(shard: Path, header: str, problem: str) -> None:
    shard.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(shard) is None
    [found] = problems(shard)
    assert problem in found


def test_header_that_is_not_utf8_is_refused(shard: Path) -> None:
    shard.write_bytes(file_bytes(f'{{"aé":{{{ENTRY}}}}}', EIGHT).replace(b"\xc3\xa9", b"\xe9\xe9"))
    assert safetensors_reads(shard) is None
    assert problems(shard) == ["is not UTF-8 at byte 3"]


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
    shard: Path, header: str, problem: str
) -> None:
    shard.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(shard) == {"a": ("F32", (2,))}
    assert problems(shard) == [problem]


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}',
        f'{{"a":{{{ENTRY},"other":1e999}}}}',
        f'{{"a":{{{ENTRY},"other":{"9" * 400}}}}}',
        f'{{"a":{{{ENTRY},"other":{"[" * 127 + "]" * 127}}}}}',
    ],
)
def test_what_safetensors_refuses_and_the_format_does_not_is_taken(shard: Path, header: str) -> None:
    shard.write_bytes(file_bytes(header, EIGHT))
    assert safetensors_reads(shard) is None
    assert read_header(shard).tensors == {"a": TensorHeader("F32", (2,), 0, 8)}

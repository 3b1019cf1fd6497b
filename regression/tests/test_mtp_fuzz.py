"""The property that fuzzing checks finds readers that break it; atheris is not needed."""

import random
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.files.headers import TensorHeader, read_header
from mtp_checkpoint.files.index import Index, read_index
from mtp_regression.maintenance.app import app
from mtp_regression.maintenance.fuzz.process import replace_value
from mtp_regression.maintenance.fuzz.readers import READERS, SHARD
from mtp_regression.maintenance.fuzz.seeds import write_seeds
from mtp_regression.maintenance.fuzz.targets import MEMORY_FREE, OUTSIDE, ReaderError, check_input, prepare

HEADER = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
SOUND = struct.pack("<Q", len(HEADER)) + HEADER + struct.pack("<I", 8)
INDEX = b'{"weight_map":{"a":"%s"}}' % SHARD.encode()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    return prepare(tmp_path)


def checkpoint(index: bytes, shard: bytes = SOUND) -> bytes:
    return struct.pack("<I", len(index)) + index + shard


@pytest.mark.parametrize(
    ("name", "content", "taken"),
    [
        ("header", SOUND, True),
        ("header", SOUND[:-4], False),
        ("header", b"\xff" * 12, False),
        ("index", INDEX, True),
        ("index", b'{"weight_map":{"a":"../b"}}', False),
        ("checkpoint", checkpoint(INDEX), True),
        ("checkpoint", checkpoint(b""), True),
        ("checkpoint", checkpoint(b'{"weight_map":{"out":"outside.safetensors"}}'), True),
        ("checkpoint", checkpoint(b'{"weight_map":{"out":"../outside.safetensors"}}'), False),
        ("checkpoint", checkpoint(b'{"weight_map":{"a":"pipe.safetensors"}}'), False),
        ("config", b'{"num_experts":8}', True),
        ("config", b'{"text_config":null}', False),
        ("record", b'{"decoder":"packed","mtp":"absent","float32":[]}', True),
        ("record", b'{"decoder":"packed","mtp":"absent","float32":"a"}', False),
    ],
)
def test_readers_hold_the_property(inside: Path, name: str, content: bytes, taken: bool) -> None:
    assert check_input(READERS[name], inside, content) is taken
    assert not tracemalloc.is_tracing()


def raises(_folder: Path) -> Any:
    raise KeyError("dtype")


def opens_outside(folder: Path) -> Any:
    return read_index(folder / ".." / OUTSIDE)


def hides_what_it_opens(folder: Path) -> Any:
    try:
        list(folder.parent.iterdir())
    except AssertionError:
        raise CheckpointError("folder", ["hidden"]) from None


def writes(folder: Path) -> Any:
    (folder / "new").write_text("")


def starts_a_process(_folder: Path) -> Any:
    subprocess.run([sys.executable, "--version"], check=False)


def takes_what_is_claimed(folder: Path) -> Any:
    return bytes(int.from_bytes((folder / SHARD).read_bytes()[:8], "little"))


def has_no_problem(folder: Path) -> Any:
    raise CheckpointError(str(folder), [])


def shows_control_characters(folder: Path) -> Any:
    raise CheckpointError(str(folder), ["\x1b[2J"])


def shows_everything(folder: Path) -> Any:
    raise CheckpointError(str(folder), ["x" * 10_000])


def leaves_a_gap(folder: Path) -> Any:
    header = read_header(folder / SHARD)
    return replace(header, tensors={})


def gives_another_shape(folder: Path) -> Any:
    header = read_header(folder / SHARD)
    return replace(header, tensors={"a": TensorHeader("F32", (3,), 0, 8)})


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (raises, "raised KeyError: 'dtype'"),
        (opens_outside, "outside of the folder"),
        (hides_what_it_opens, "outside of the folder"),
        (writes, "for writing"),
        (starts_a_process, r"calls subprocess\.Popen"),
        (has_no_problem, "bad message"),
        (shows_control_characters, "bad message"),
        (shows_everything, "bad message"),
        (leaves_a_gap, "do not fill the data"),
        (gives_another_shape, "another size than its data"),
    ],
)
def test_reader_that_breaks_the_property_is_caught(
    inside: Path, read: Callable[[Path], Any], message: str
) -> None:
    with pytest.raises(ReaderError, match=message):
        check_input(replace(READERS["header"], read=read), inside, SOUND)


def test_reader_that_takes_what_a_header_claims_is_caught(inside: Path) -> None:
    claims = struct.pack("<Q", 2 * MEMORY_FREE) + b"{}" + struct.pack("<I", 0)
    assert check_input(READERS["header"], inside, claims) is False
    with pytest.raises(ReaderError, match=r"took \d+ bytes for an input of 14"):
        check_input(replace(READERS["header"], read=takes_what_is_claimed), inside, claims)


@pytest.mark.parametrize("file", ["..", "../b", "a/../../b", "", "/etc/passwd"])
def test_index_with_a_path_is_caught(inside: Path, file: str) -> None:
    with pytest.raises(ReaderError, match=r"no path below|leads out"):
        check_input(replace(READERS["index"], read=lambda _: Index({"a": file}, {})), inside, INDEX)


def test_seeds_are_taken_and_refused_by_every_reader(tmp_path: Path, inside: Path) -> None:
    write_seeds(tmp_path / "seeds")
    for name, reader in READERS.items():
        taken = [
            check_input(reader, inside, path.read_bytes()) for path in (tmp_path / "seeds" / name).iterdir()
        ]
        assert any(taken), name
        if name in ("header", "index", "checkpoint"):
            assert not all(taken), name  # the faults


def test_replaced_values_keep_the_lengths_right(inside: Path) -> None:
    lengths = READERS["checkpoint"].lengths
    content, right = checkpoint(INDEX), 0
    for seed in range(300):
        changed = replace_value(content, lengths(content), random.Random(seed))
        end = 4 + int.from_bytes(changed[:4], "little")
        right += end + 8 + int.from_bytes(changed[end : end + 8], "little") == len(changed) - 4
        check_input(READERS["checkpoint"], inside, changed)
    assert right > 200  # a byte of a length can look like a number, and be replaced


def test_input_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input").write_bytes(SOUND)
    arguments = ["fuzz", "--input", str(tmp_path / "input"), "header"]
    taken = CliRunner().invoke(app, arguments)
    assert (taken.exit_code, taken.output) == (0, "header: taken\n")
    monkeypatch.setitem(READERS, "header", replace(READERS["header"], read=raises))
    broken = CliRunner().invoke(app, arguments)
    assert broken.exit_code == 1
    assert "header raised KeyError" in broken.output


def test_run_that_never_began_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert CliRunner().invoke(app, ["fuzz", "--seconds", "1", "index"]).exit_code == 1
    assert '"executions": 0' in (tmp_path / "reports" / "fuzz.json").read_text()

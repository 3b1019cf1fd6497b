"""Whatever a header says: little memory is taken, no data is read, nothing is waited for."""

import os
import signal
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtp_bridge_patch.headers import read_header

from .header_files import file_bytes, problems, safetensors_reads


@contextmanager
def little_memory(limit: int = 100_000) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [95, 1 << 31, 1 << 60, (1 << 64) - 1])
def test_header_longer_than_the_file_takes_no_memory(shard: Path, length: int) -> None:
    shard.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 93)
    with little_memory():
        [problem] = problems(shard)
    assert f"{length} bytes of header in a file of 102" in problem


def test_header_over_the_limit_is_not_read(shard: Path) -> None:
    with shard.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{}")
        file.truncate(100_000_009)
    assert safetensors_reads(shard) is None
    with little_memory():
        [problem] = problems(shard)
    assert "over the limit of 100000000" in problem


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def test_no_data_is_read(shard: Path) -> None:
    size = 1 << 34
    header = {"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    shard.write_bytes(file_bytes(header))
    os.truncate(shard, shard.stat().st_size + size)  # a hole, which takes no disk
    before = bytes_read()
    assert read_header(shard).data_size == size
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


def test_long_shape_takes_linear_time(shard: Path) -> None:
    header = {"a": {"dtype": "U8", "shape": [2**60] * 200_000, "data_offsets": [0, 0]}}
    shard.write_bytes(file_bytes(header))
    with seconds_at_most(20):
        assert problems(shard) == ["a: its shape has too many elements"]

"""The readers of files from strangers that are fuzzed: how an input is stored, read and judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from math import prod
from pathlib import Path

from mtp_bridge_patch.fixes.config_only.record import FILE_NAME, ExportRecord
from mtp_checkpoint.files.checkpoint import CheckpointHeaders, read_checkpoint
from mtp_checkpoint.files.headers import DTYPE_BITS, ShardHeader, read_header
from mtp_checkpoint.files.index import INDEX_NAME, Index, read_index
from mtp_checkpoint.inspection.declaration import CONFIG_NAME, Declaration
from mtp_regression.maintenance.fuzz.targets import OUTSIDE, Reader, ReaderError

SHARD = "model.safetensors-00001-of-00001.safetensors"
"""The one file of the folder that the input gives the header of."""

_TEXT_FACTOR = 6  # of a header that is zeros: its bytes, and text of up to four bytes a character
_MAX_DATA = 2**24  # bytes that follow a header; the file is sparse


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ReaderError(what)


def _write_file(name: str) -> Callable[[Path, bytes], int]:
    def write(folder: Path, content: bytes) -> int:
        (folder / name).write_bytes(content)
        return 0

    return write


def _write_shard(folder: Path, content: bytes) -> int:
    """Store a file's beginning; the last four bytes say how much (sparse) data follows."""
    start, size = content[:-4], int.from_bytes(content[-4:], "little") % _MAX_DATA
    (folder / SHARD).write_bytes(start)
    os.truncate(folder / SHARD, len(start) + size)
    claimed = int.from_bytes(start[:8], "little")
    return _TEXT_FACTOR * claimed if claimed <= len(start) + size else 0


def _write_checkpoint(folder: Path, content: bytes) -> int:
    """Store an index, whose length the first four bytes say, and a shard; length 0 stands for no index."""
    end = 4 + int.from_bytes(content[:4], "little")
    (folder / INDEX_NAME).unlink(missing_ok=True)
    if end > 4:
        (folder / INDEX_NAME).write_bytes(content[4:end])
    return _write_shard(folder, content[end:])


def _shard_lengths(_content: bytes, start: int = 0) -> list[tuple[int, int, int]]:
    return [(start, 8, start + 8)]


def _checkpoint_lengths(content: bytes) -> list[tuple[int, int, int]]:
    return [(0, 4, 4), *_shard_lengths(content, 4 + int.from_bytes(content[:4], "little"))]


def _check_header(header: ShardHeader, file_size: int) -> None:
    _expect(header.data_start + header.data_size == file_size, "header and data do not fill the file")
    sizes = 0
    for name, (dtype, shape, begin, end) in header.tensors.items():
        _expect(0 <= begin <= end <= header.data_size, f"{name!r} ends outside of the file")
        _expect(
            prod(shape) * DTYPE_BITS[dtype] == 8 * (end - begin), f"{name!r} has another size than its data"
        )
        sizes += end - begin
    _expect(sizes == header.data_size, "the tensors do not fill the data")


def _check_index(index: Index, folder: Path) -> None:
    for file in index.weight_map.values():
        normal = os.path.normpath(folder / file)
        _expect(os.path.relpath(normal, folder) == file, f"{file!r} is no path below the folder")
        _expect(bool(file.split("/")[0].strip(" .")), f"{file!r} leads out of the folder")
    _expect(type(index.total_size) in (int, type(None)), "total_size is no whole number")


def _check_checkpoint(read: CheckpointHeaders, content: bytes, folder: Path) -> None:
    for file, header in read.shards.items():
        _expect(file in (SHARD, OUTSIDE), f"{file!r} was read")
        _check_header(header, (folder / file).stat().st_size)
    if read.index is not None:
        _check_index(read.index, folder)
        _expect(read.index.weight_map.keys() == read.shard_of.keys(), "the index has other tensors")
    _expect(read.tensors.keys() == read.shard_of.keys() and bool(read.tensors), "not every tensor has a file")
    without = content[:4] in (b"", bytes(len(content[:4]))) or any("no weight_map" in n for n in read.notes)
    _expect((read.index is None) == without, "the index was overlooked")


def _check_config(declaration: Declaration | None, _content: bytes, _folder: Path) -> None:
    _expect(declaration is not None, "config.json was overlooked")
    for field in fields(Declaration):
        value = getattr(declaration, field.name)
        if field.name == "layer_types" and value is not None:
            _expect(all(type(kind) is str for kind in value), f"{field.name} is {value!r}, no names")
            continue
        if field.name in ("architecture", "tied"):
            kind = str if field.name == "architecture" else bool
            _expect(value is None or type(value) is kind, f"{field.name} is {value!r}, no {kind.__name__}")
            continue
        _expect(value is None or (type(value) is int and value >= 0), f"{field.name} is {value!r}, no size")


def _check_record(record: ExportRecord | None, content: bytes, _folder: Path) -> None:
    if record is None:
        raise ReaderError("the record was overlooked")
    names = json.loads(content)["float32"]
    _expect(
        isinstance(names, list) and set(names) == record.float32, "float32 holds other names than the file"
    )
    again = ExportRecord.from_json(record.to_json().encode(), "the record that was written again")
    _expect(again == record, "the record is another one when written and read")


READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "header",
            _write_shard,
            lambda folder: read_header(folder / SHARD),
            lambda header, _, folder: _check_header(header, (folder / SHARD).stat().st_size),
            _shard_lengths,
        ),
        Reader(
            "index",
            _write_file(INDEX_NAME),
            lambda folder: read_index(folder / INDEX_NAME),
            lambda index, _, folder: _check_index(index, folder),
        ),
        Reader("checkpoint", _write_checkpoint, read_checkpoint, _check_checkpoint, _checkpoint_lengths),
        Reader("config", _write_file(CONFIG_NAME), Declaration.read, _check_config),
        Reader("record", _write_file(FILE_NAME), ExportRecord.read, _check_record),
    )
}
"""The readers by name; what an input is made of is said by their `write`."""

"""Bytes of single safetensors files, and what each reader makes of them."""

import json
import struct
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from mtp_bridge_patch.headers import read_header
from mtp_bridge_patch.untrusted import CheckpointError

ENTRY = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
EIGHT = bytes(range(8))

Read = dict[str, tuple[str, tuple[int, ...]]]


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

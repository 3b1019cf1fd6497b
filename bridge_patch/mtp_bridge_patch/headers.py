"""The header of one safetensors file: its tensors and where they are, without their data.

Nothing but the standard library is needed. The format is that of the README of safetensors, section
"Format". Files come from strangers: sizes are checked before memory is taken, and every fault ends in
`CheckpointError`.

Compared with `safe_open` of safetensors 0.8.0, which goes by what its JSON library takes:

- Refused here, as the format says: a key that occurs twice, anything before the first ``{``, and an entry or
  a dtype in another form (``["F32", [2], [0, 8]]``, ``{"F32": null}``).
- Taken here: ``-0`` for 0; in fields that no reader looks at, numbers out of range (``1e999``) and JSON
  nested more than 127 deep.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mtp_bridge_patch.untrusted import MAX_JSON_SIZE, CheckpointError, parse_object, regular_file, shown

_DTYPES = {
    4: "F4",
    6: "F6_E2M3 F6_E3M2",
    8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
    16: "I16 U16 F16 BF16",
    32: "I32 U32 F32",
    64: "I64 U64 F64 C64",
}
DTYPE_BITS = {dtype: bits for bits, dtypes in _DTYPES.items() for dtype in dtypes.split()}
"""Bits of one element of each dtype of safetensors 0.8.0 (its Dtype::bitsize)."""

_METADATA = "__metadata__"
_LENGTH_SIZE = 8  # of the header's length, an unsigned little-endian integer before the header
_MAX_INTEGER = 2**64 - 1  # safetensors' integers; also keeps products and messages short


class TensorHeader(NamedTuple):
    """What a header says of one tensor.

    Attributes:
        dtype: Safetensors' name of the dtype, a key of `DTYPE_BITS`.
        shape: Its shape; () for a scalar.
        begin: Where its data begins, in bytes from the start of the file's data.
        end: Where its data ends (exclusive), likewise.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class ShardHeader:
    """The header of one safetensors file.

    Attributes:
        tensors: The tensors by name, in the header's order; their data fills the file without gaps.
        metadata: The header's `__metadata__`; None where it has none.
        data_start: Where the tensors' data begins, in bytes from the start of the file.
        data_size: Size of all tensors' data in bytes; the file ends with it.
    """

    tensors: dict[str, TensorHeader]
    metadata: dict[str, str] | None
    data_start: int
    data_size: int


def read_header(path: Path) -> ShardHeader:
    """Read and check the header of a safetensors file; no data of a tensor is read.

    Args:
        path: A regular file, or a link to one.

    Returns:
        The header. It agrees with itself and with the file's size.

    Raises:
        CheckpointError: The file cannot be read, or its header is not as the format says. Every tensor that
            is wrong is listed, with the first thing wrong about it.
    """
    where = str(path)
    raw, size = _read_raw(path)
    entries, problems = parse_object(raw, where)
    metadata = entries.pop(_METADATA, None)
    if metadata is not None and not _is_string_map(metadata):
        problems.append(f"{_METADATA} is no map of strings to strings")
    tensors: dict[str, TensorHeader] = {}
    for name, entry in entries.items():
        tensor = _tensor(entry)
        if isinstance(tensor, str):
            problems.append(f"{shown(name)}: {tensor}")
        else:
            tensors[name] = tensor
    data_start = _LENGTH_SIZE + len(raw)
    if len(tensors) == len(entries):  # what one wrong entry leaves open is no gap
        problems += _gaps_and_overlaps(tensors)
    end = max((tensor.end for tensor in tensors.values()), default=0)
    if data_start + end > size:
        problems.append(f"is truncated: its header describes {data_start + end} bytes, it has {size}")
    elif data_start + end < size and len(tensors) == len(entries):
        problems.append(f"{size - data_start - end} bytes at the end belong to no tensor")
    if problems:
        raise CheckpointError(where, problems)
    return ShardHeader(tensors, metadata, data_start, end)


def _read_raw(path: Path) -> tuple[bytes, int]:
    """Return the header's bytes and the file's size."""
    with regular_file(path) as (file, size):
        length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
        raw = b""
        if size < _LENGTH_SIZE:
            problem = f"has {size} bytes, too few for a safetensors file"
        elif length > size - _LENGTH_SIZE:
            problem = f"is truncated or no safetensors file: {length} bytes of header in a file of {size}"
        elif length > MAX_JSON_SIZE:
            problem = f"its header of {length} bytes is over the limit of {MAX_JSON_SIZE}"
        else:
            raw = file.read(length)
            problem = "its header does not begin with {"
    if not raw.startswith(b"{"):
        raise CheckpointError(str(path), [problem])
    return raw, size


def _is_string_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _tensor(entry: Any) -> TensorHeader | str:
    """Return the tensor, or what is wrong with its entry. Fields that the format does not name may stand."""
    if type(entry) is not dict:
        return "its entry is no JSON object"
    dtype = entry.get("dtype")
    if type(dtype) is not str:
        return "its dtype is no string"
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        return f"its dtype {shown(dtype)} is unknown"
    shape = entry.get("shape")
    if type(shape) is not list:
        return "its shape is no list"
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= _MAX_INTEGER:  # True is an int, and no size
            return "its shape holds something else than sizes"
        count *= size
        if count > _MAX_INTEGER:  # stops here, for the product of a long list takes quadratic time
            return "its shape has too many elements"
    offsets = entry.get("data_offsets")
    if type(offsets) is not list or len(offsets) != 2:
        return "its data_offsets are no pair"
    begin, end = offsets
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= _MAX_INTEGER:
        return "its data_offsets are no range of bytes"
    size, rest = divmod(count * bits, 8)
    if rest:
        return f"its {count} elements of {dtype} end within a byte"
    if size != end - begin:
        return f"its {count} elements of {dtype} are {size} bytes, its data has {end - begin}"
    return TensorHeader(dtype, tuple(shape), begin, end)


def _gaps_and_overlaps(tensors: Mapping[str, TensorHeader]) -> Iterator[str]:
    filled, last = 0, ""
    for name, (_, _, begin, end) in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if begin > filled:
            yield f"{begin - filled} bytes before {shown(name)} belong to no tensor"
        elif begin < filled:
            yield f"{shown(name)} overlaps {shown(last)}"
        if end >= filled:
            filled, last = end, name

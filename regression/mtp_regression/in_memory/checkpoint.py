"""A checkpoint in Hugging Face's format: read in the form that conversions take, and made of it again.

That form does not depend on how a checkpoint stores things: every projection of a routed expert is a tensor
of its own, under the key that it has where experts are stored one by one, and no weight is FP8.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtp_checkpoint import LayoutError, inspect
from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_checkpoint.files.untrusted import parse_object, read_json
from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX, TABLES, ExpertLayout, Shape, scale_shape
from mtp_checkpoint.layouts.keys import EMBEDDING, HEAD
from mtp_checkpoint.layouts.stored_experts import split_packed
from mtp_regression.comparison.tensors import DTYPES
from mtp_regression.in_memory.conversions import Array
from mtp_regression.in_memory.fp8 import E4M3, dequantize, quantize
from mtp_regression.in_memory.model import Model


def read_model(folder: Path) -> Model:
    """Read which model a folder's `config.json` declares.

    Raises:
        CheckpointError: There is no such file, or it is no JSON object.
        LayoutError: A dimension is missing.
    """
    path = folder / CONFIG_NAME
    config, _ = parse_object(read_json(path), str(path))
    try:
        return Model.of(config)
    except KeyError as error:
        raise LayoutError(str(folder), [f"{CONFIG_NAME} has no {error.args[0]}"]) from error


_FP8 = "F8_E4M3"
_FLOATS = ("BF16", "F16", "F32")


class Span(NamedTuple):
    """Where a tensor is: rows of a stored tensor, counted over all axes but the last ones of the tensor."""

    stored: str
    begin: int
    end: int
    shape: Shape


class Checkpoint:
    """A checkpoint's tensors; their files are mapped into memory.

    Attributes:
        folder: Its folder.
        headers: What its files have, and where.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        """Read index and headers, and see whether they are those of the model.

        Raises:
            CheckpointError: Files cannot be read, or contradict the index.
            LayoutError: Keys, shapes and configuration contradict each other; names layers or keys.
        """
        self.folder = folder
        self.headers = read_checkpoint(folder)
        self._files: dict[str, Array] = {}
        self._unscaled = lru_cache(maxsize=2)(self._dequantized)  # packed experts are read one by one
        report = inspect(self.headers).require_consistent()
        expected = model.stored(_plain(report.decoder_layout), _plain(report.mtp_layout))
        if problems := list(self._problems(model, expected)):
            raise LayoutError(str(folder), problems)
        self._parts = {key: dict(self._split(key)) for key in self._weights()}
        self._homes = {part: rows for parts in self._parts.values() for part, rows in parts.items()}
        self._copies = {model.root + EMBEDDING: HEAD} if model.tied and HEAD in self._parts else {}

    def read(self, key: str) -> Array:
        """Return a tensor in its stored dtype, FP8 in F32."""
        stored, begin, end, shape = self._homes[key]
        return self._unscaled(stored).reshape(-1, *shape[1:])[begin:end]

    def rows(self, key: str) -> int:
        """Return how many rows a tensor has."""
        return self._homes[key].shape[0]

    def store(self, tensors: Iterable[tuple[str, Array]]) -> Iterator[tuple[str, Array]]:
        """Make what the checkpoint stores of what conversions give, as soon as all parts are there.

        Yields:
            Key and array, of the checkpoint's shape and dtype, that shares no memory with any other.
        """
        waiting: defaultdict[str, dict[str, Array]] = defaultdict(dict)
        for key, tensor in tensors:
            stored = self._homes[key].stored
            waiting[stored][key] = tensor
            if len(waiting[stored]) < len(self._parts[stored]):
                continue
            parts = waiting.pop(stored)
            header = self.headers.tensors[stored]
            whole = np.concatenate([parts[part] for part in self._parts[stored]]).reshape(header.shape)
            yield from self._encoded(stored, whole, DTYPES[header.dtype])
            if stored in self._copies:
                yield self._copies[stored], whole.astype(DTYPES[header.dtype])

    def _encoded(self, key: str, whole: Array, dtype: np.dtype[Any]) -> Iterator[tuple[str, Array]]:
        if dtype != E4M3:
            yield key, whole.astype(dtype)
            return
        weight, scales = quantize(whole, self._array(key + SCALE_SUFFIX))
        yield key, weight
        yield key + SCALE_SUFFIX, scales

    def _dequantized(self, key: str) -> Array:
        array = self._array(key)
        return dequantize(array, self._array(key + SCALE_SUFFIX)) if array.dtype == E4M3 else array

    def _array(self, key: str) -> Array:
        """View a stored tensor in its file."""
        file, (dtype, shape, begin, end) = self.headers.shard_of[key], self.headers.tensors[key]
        if file not in self._files:
            start = self.headers.shards[file].data_start
            self._files[file] = np.memmap(self.folder / file, np.uint8, mode="r", offset=start)
        return np.asarray(self._files[file])[begin:end].view(DTYPES[dtype]).reshape(shape)

    def _weights(self) -> Iterator[str]:
        return (key for key in self.headers.tensors if not key.endswith(SCALE_SUFFIX))

    def _split(self, key: str) -> Iterator[tuple[str, Span]]:
        """Yield the tensors that a stored one holds, one below the other."""
        begin = 0
        shape = self.headers.tensors[key].shape
        for part, own in split_packed(key, shape) or [(key, shape)]:
            yield part, Span(key, begin, begin + own[0], own)
            begin += own[0]

    def _problems(self, model: Model, expected: Mapping[str, Shape]) -> Iterator[str]:
        """Yield what the checkpoint has otherwise than the model that its configuration declares."""
        found = self.headers.tensors
        weights = set(self._weights())
        optional = {HEAD} if model.tied else set()
        for key in sorted(expected.keys() - weights):
            yield f"{key} is missing"
        for key in sorted(weights - expected.keys() - optional):
            yield f"{key}: config.json declares no such tensor"
        for key in sorted(weights & expected.keys()):
            if found[key].shape != expected[key]:
                yield f"{key} is {list(found[key].shape)}, by config.json {list(expected[key])}"
        for key, header in sorted(found.items()):
            if key.endswith(SCALE_SUFFIX):
                weight = found.get(key.removesuffix(SCALE_SUFFIX))
                if weight is None or weight.dtype != _FP8:
                    yield f"{key} has the scales of no FP8 weight"
            elif header.dtype == _FP8:
                scales = found.get(key + SCALE_SUFFIX)
                if scales is None or scales.shape != scale_shape(header.shape):
                    yield f"{key} is FP8, and {key}{SCALE_SUFFIX} is not one scale for each of its blocks"
            elif header.dtype not in _FLOATS:
                yield f"{key} is {header.dtype}"
        head, embedding = (found.get(key) for key in (HEAD, model.root + EMBEDDING))
        if model.tied and head and embedding:
            one, other = (self._array(key) for key in (HEAD, model.root + EMBEDDING))
            if head[:2] != embedding[:2] or one.tobytes() != other.tobytes():
                yield f"{HEAD} is not the embedding, and config.json ties them (tie_word_embeddings)"


def _plain(layout: ExpertLayout) -> ExpertLayout:
    """Return the layout that stores the same weights without scales."""
    table = TABLES[layout]
    same = (
        each for each in TABLES.values() if (each.stacked, each.tensors) == (table.stacked, table.tensors)
    )
    return next(each.layout for each in same if not each.scaled)

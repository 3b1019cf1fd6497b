"""Bytes of a tensor in a file: read or mapped into memory, or read piece by piece beside another's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 19
"""Bytes of each of two tensors that are read at a time: both are in a core's cache when they are compared."""

_SMALL, _LARGE = 1 << 20, 1 << 24


@dataclass(frozen=True)
class Stored:
    """Bytes in a file.

    Attributes:
        path: The file.
        offset: Where they begin.
        size: How many they are.
    """

    path: Path
    offset: int
    size: int

    def __call__(self) -> NDArray[np.uint8]:
        """Map the bytes into memory; few are read, which costs less than to set up a map.

        Raises:
            OSError: The file cannot be read.
            ValueError: It ends before the bytes do.
        """
        if self.size < _SMALL:
            return self.read(0, self.size)
        return np.asarray(np.memmap(self.path, np.uint8, mode="r", offset=self.offset, shape=(self.size,)))

    def read(self, start: int, end: int) -> NDArray[np.uint8]:
        """Read the bytes from one offset to another, or to their end.

        Raises:
            OSError: The file cannot be read.
            ValueError: It ends before the bytes do.
        """
        count = max(0, min(end, self.size) - start)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + start)
            content = file.read(count)
        if len(content) < count:
            raise ValueError(f"{self.path} ends at byte {self.offset + start + len(content)}")
        return np.frombuffer(content, np.uint8)

    def equals(self, other: Stored) -> bool:
        """Whether another has the same bytes. They are read, for each page of a map costs more than a read.

        Large ones are read by two threads, a half each.

        Raises:
            OSError: A file cannot be read.
        """
        if self.size != other.size:
            return False
        if self.size < _LARGE:
            return self._equals(other, 0, self.size)
        middle = self.size // 2
        with ThreadPoolExecutor(1) as thread:
            rest = thread.submit(self._equals, other, middle, self.size)
            return self._equals(other, 0, middle) & rest.result()

    def _equals(self, other: Stored, start: int, end: int) -> bool:
        """Compare bytes from `start` up to `end`."""
        left, right = (bytearray(min(PIECE, end - start)) for _ in range(2))
        with self.path.open("rb", buffering=0) as one, other.path.open("rb", buffering=0) as two:
            one.seek(self.offset + start)
            two.seek(other.offset + start)
            for at in range(start, end, PIECE):
                count = min(PIECE, end - at)
                if count < len(left):
                    del left[count:], right[count:]
                if one.readinto(left) != count or two.readinto(right) != count or left != right:
                    return False
        return True

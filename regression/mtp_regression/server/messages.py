"""What a warm server and its callers say to each other, over a socket of this user's alone."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MOST_BYTES = 2**24


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process start a server in a folder, or take one's socket away."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def peer(connection: socket.socket) -> int:
    """Return the user id of the process at the other end."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)


def send(connection: socket.socket, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send a line of JSON, and descriptors."""
    text = json.dumps(message).encode() + b"\n"
    sent = socket.send_fds(connection, [text], descriptors) if descriptors else 0
    if sent < len(text):  # who has all may have answered and gone, and to send nothing is an error then
        connection.sendall(text[sent:])


@contextmanager
def receiving(connection: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Receive what `send` has sent; the descriptors are closed at the end.

    Raises:
        OSError: The other end has gone, or is silent.
        ValueError: It sends something else.
    """
    text, descriptors, _, _ = socket.recv_fds(connection, 2**16, 3)
    try:
        while not text.endswith(b"\n"):
            more = connection.recv(2**16)
            if not more or len(text) > _MOST_BYTES:
                raise ConnectionResetError("the other end has gone")
            text += more
        yield json.loads(text), descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)

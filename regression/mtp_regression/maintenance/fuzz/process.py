"""One reader under atheris, in a process of its own: libFuzzer ends the process that it runs in.

    python -m mtp_regression.maintenance.fuzz.process READER FOLDER LIBFUZZER-ARGUMENTS...

Half of the mutations are libFuzzer's, of bytes. The others replace a value of the JSON by another, and keep
the lengths that the input states right, or hardly any would get past the first check.
"""

from __future__ import annotations

import random
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|\[[^][{}]*\]|\{[^][{}]*\}')
VALUES = (
    *(
        b'""',
        b'".."',
        b'"../outside.safetensors"',
        b'"outside.safetensors"',
        b'"pipe.safetensors"',
        b'"a\\u0000"',
    ),
    *(b'"\\ud800"', b"null", b"true", b"0", b"-1", b"0.5", b"1e999", b"18446744073709551616", b"NaN", b"[]"),
    *(b"{}", b"[[]]", b'{"text_config":1}', b"9" * 4400, b"[" * 2000, b'"' + b"x" * 5000 + b'"', b'"packed"'),
)
"""What takes the place of a value: each is wrong almost everywhere, in a way of its own."""


def replace_value(content: bytes, lengths: list[tuple[int, int, int]], rng: random.Random) -> bytes:
    """Replace one value of an input's JSON; the last length field before it grows or shrinks with it."""
    tokens = list(_TOKEN.finditer(content))
    if not tokens:
        return content
    old = rng.choice(tokens)
    new = rng.choice((*VALUES, rng.choice(tokens).group()))
    content = content[: old.start()] + new + content[old.end() :]
    for offset, size, begin in reversed(lengths):
        if begin <= old.start():
            length = (
                int.from_bytes(content[offset : offset + size], "little")
                + len(new)
                - (old.end() - old.start())
            )
            field = (length & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            return content[:offset] + field + content[offset + size :]
    return content


def main(name: str, folder: Path, arguments: list[str]) -> None:
    """Fuzz a reader until libFuzzer ends the process."""
    atheris: Any = import_module("atheris")  # in the environment of `nox -s fuzz` alone
    with atheris.instrument_imports(include=["mtp_bridge_patch", "mtp_checkpoint"]):
        from mtp_regression.maintenance.fuzz.readers import READERS
        from mtp_regression.maintenance.fuzz.targets import check_input, prepare
    import tracemalloc

    reader, inside = READERS[name], prepare(folder)

    def one_input(content: bytes) -> None:
        check_input(reader, inside, content)

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311 (libFuzzer's own seed, so that a run can be repeated)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(content, max_size))
        return replace_value(content, reader.lengths(content), rng)[:max_size]

    check_input(reader, inside, b"{}")  # what is imported late opens files elsewhere
    tracemalloc.start()
    atheris.Setup([sys.argv[0], *arguments], one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

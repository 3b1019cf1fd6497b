"""Scripts that do with other means what the kit does."""

SAVE_PRETRAINED = """
import sys
from transformers import AutoConfig, AutoModelForImageTextToText
config = AutoConfig.from_pretrained(sys.argv[1])
AutoModelForImageTextToText.from_config(config).save_pretrained(sys.argv[2])
"""
"""Of the configuration in a folder, into another."""

HASH_AND_WRITE = """
import hashlib, os, sys
from concurrent.futures import ThreadPoolExecutor
source, copy = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
size = os.fstat(source).st_size
def half(start, end):
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
    while start < end:
        piece = buffer[: os.preadv(source, [buffer[: end - start]], start)]
        digest.update(piece)
        start += os.pwrite(copy, piece, start)
    return digest.hexdigest()
with ThreadPoolExecutor(2) as threads:
    list(threads.map(half, (0, size // 2), (size // 2, size)))
"""
"""What whoever writes bytes with their sha256 cannot do without, in as many threads as the generator has.

Sha256 of a file that is there would be no match: it writes nothing, and to fill the pages of a new file takes
the kernel as long as hashing does.
"""

TORCH_EQUAL = """
import sys, torch
from safetensors import safe_open
one, other = (safe_open(path, "pt") for path in sys.argv[1:])
names = one.keys()
assert names == other.keys() and all(torch.equal(one.get_tensor(n), other.get_tensor(n)) for n in names)
"""
"""Of two files."""

READ_HEADERS = """
import sys
from pathlib import Path
from safetensors import safe_open
found = {}
for path in Path(sys.argv[1]).glob("*.safetensors"):
    with safe_open(path, "np") as file:
        for name in file.keys():
            part = file.get_slice(name)
            found[name] = part.get_dtype(), part.get_shape()
print(len(found))
"""
"""Of all files of a folder."""

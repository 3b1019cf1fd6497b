"""The most memory that a comparison of 4 GB has: of whole processes, which do nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_fixtures.model.mlp import Moe
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.generated import GeneratedTensors
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.maintenance.bench.process import Usage, mtpkit, python, run
from mtp_regression.oracle.check import check
from mtp_regression.oracle.claims import NativeOrigins
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.oracle.shards import Array
from mtp_regression.provenance.origins import Origins
from mtp_regression.ranks.parallel import Coordinates, Parallel

LIMIT = 10**9
"""Bytes."""
_ON_DISK = "qwen3.5-2b"
_WRONG = 8
"""One tensor in so many is wrong."""


def virtual(layers: int = 16) -> CheckpointSpec:
    """Make a checkpoint of 4.9 GB, on no disk: layers of 32 packed experts, 0.13 GB in the largest tensor."""
    geometry = preset("qwen3.6-35b-a3b").published
    assert isinstance(geometry.text.mlp, Moe)
    mlp = replace(geometry.text.mlp, num_experts=32)
    text = replace(geometry.text, num_hidden_layers=layers, vocab_size=1 << 15, mlp=mlp)
    return CheckpointSpec(
        preset("qwen3.6-35b-a3b"), scale=Scale.REAL, dimensions=replace(geometry, text=text, vision=None)
    )


def compare_export(*, spec: CheckpointSpec, wrong: bool) -> int:
    """Compare a checkpoint with an export of the same, or of one with wrong tensors; return what is wrong."""
    source = GeneratedTensors(spec)
    config = json.loads(spec.plan(sparse=True).texts["config.json"])
    export = (
        (name, _made(spec, name, changed=wrong and number % _WRONG == 0))
        for number, name in enumerate(source)
    )
    return len(compare(source, export, Origins(source, config=config).of))


def check_parameters(*, spec: CheckpointSpec, wrong: bool) -> int:
    """Compare the parameters of a rank, likewise, with those that the oracle expects."""
    config = json.loads(spec.plan(sparse=True).texts["config.json"])
    place = GeneratedTensors(spec), config, Parallel(), Coordinates()
    recipes = native_parameters(*place)
    held = native_parameters(GeneratedTensors(spec), *place[1:])

    def parameters() -> Iterator[tuple[str, RawTensor]]:
        for number, (name, recipe) in enumerate(held.items()):
            yield name, _with_a_wrong_byte(recipe(), wrong=wrong and number % (8 * _WRONG) == 0)

    return len(check(recipes, parameters(), NativeOrigins(*place).of))


def _made(spec: CheckpointSpec, name: str, *, changed: bool) -> RawTensor:
    """Make a tensor of a checkpoint, and keep no other, as a bridge does that yields one at a time."""
    tensor = GeneratedTensors(spec)[name]
    return _with_a_wrong_byte(tensor.array(), wrong=changed)


def _with_a_wrong_byte(array: Array, *, wrong: bool) -> RawTensor:
    tensor = RawTensor.from_array(array.copy() if wrong else array)
    if wrong:
        tensor.data[-1] ^= 1
    return tensor


def measure(scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield a row a comparison.

    Args:
        scratch: Where 10 GB are free.
    """
    folders = [scratch / name for name in ("one", "same", "other")]
    on_disk = CheckpointSpec(preset(_ON_DISK), scale=Scale.REAL)
    for folder, seed in zip(folders[::2], (0, 1), strict=True):
        replace(on_disk, seed=seed).write(folder, manifest=False)
    same = f"of two folders of {_ON_DISK}"
    yield _row(f"`mtpkit diff` {same}, equal", on_disk, lambda: run(mtpkit("diff", folders[0], folders[0])))
    different = partial(run, mtpkit("diff", folders[0], folders[2]), code=1)
    yield _row(f"`mtpkit diff` {same}, every tensor another", on_disk, different)
    for folder in folders[::2]:
        shutil.rmtree(folder)
    for what, function in (
        ("comparison of a stream with a checkpoint on no disk", compare_export),
        ("the oracle's check of a rank's parameters", check_parameters),
    ):
        for wrong, told in ((False, "all exact"), (True, "some wrong, and asked what they hold")):
            script = (
                f"from mtp_regression.maintenance.bench.memory import *; "
                f"found = {function.__name__}(spec=virtual(), wrong={wrong}); assert bool(found) is {wrong}"
            )
            yield _row(f"{what}, {told}", virtual(), partial(run, python(script)))


def _row(what: str, spec: CheckpointSpec, do: Callable[[], Usage]) -> dict[str, Any]:
    sizes = [tensor.byte_count for tensor in spec.tensors]
    usage = do()
    assert usage.memory is not None
    return {
        "what": what,
        "bytes": sum(sizes),
        "largest": max(sizes),
        "peak": usage.memory,
        "seconds": round(usage.seconds, 2),
        "held": usage.memory < LIMIT,
    }

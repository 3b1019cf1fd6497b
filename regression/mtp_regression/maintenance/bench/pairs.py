"""Each thing that the kit does beside what else would do it, in one run and in turns."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_regression.maintenance.bench import alternatives
from mtp_regression.maintenance.bench.process import Usage, alternately, mtpkit, python, run

TINY = "qwen3.6-35b-a3b"
REAL = "qwen3.5-2b"
"""4.5 GB in one file, of which the embedding is 1 GB."""
LARGE = "qwen3.5-397b-a17b-fp8"
"""Most tensors of all presets."""


@dataclass(frozen=True)
class Other:
    """What else would do it.

    Attributes:
        name: What it is.
        run: Does it once.
        least: How many times as long as the kit it must take; None if there is no such limit.
    """

    name: str
    run: Callable[[], Usage]
    least: float | None = None


@dataclass(frozen=True)
class Pair:
    """A thing that the kit does.

    Attributes:
        what: What it is.
        run: Does it once.
        others: What else would do it.
        times: How many times each is done.
    """

    what: str
    run: Callable[[], Usage]
    others: tuple[Other, ...]
    times: int = 5


def measure(scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield a row a pair of a thing and an alternative.

    Args:
        scratch: Where 15 GB are free.
    """
    for make in (_tiny, _real, _folders, _headers, _case):
        for pair in make(scratch):
            here, *others = alternately([pair.run, *(other.run for other in pair.others)], pair.times)
            for other, there in zip(pair.others, others, strict=True):
                ratio = there.seconds[0] / here.seconds[0]
                yield {
                    "what": pair.what,
                    "beside": other.name,
                    "here": asdict(here),
                    "there": asdict(there),
                    "ratio": round(ratio, 3),
                    "least": other.least,
                    "held": other.least is None or ratio >= other.least,
                }


def _tiny(scratch: Path) -> Iterator[Pair]:
    config = CheckpointSpec(preset(TINY)).write(scratch / "config")
    yield Pair(
        f"`mtpkit generate`, tiny {TINY}",
        lambda: run(mtpkit("generate", TINY, _fresh(scratch / "here"))),
        (
            Other(
                "transformers: `from_config`, `save_pretrained`",
                lambda: run(python(alternatives.SAVE_PRETRAINED, config, _fresh(scratch / "there"))),
                least=15,
            ),
        ),
    )


def _real(scratch: Path) -> Iterator[Pair]:
    folder, source, copy = scratch / "real", scratch / "first", scratch / "copy"
    CheckpointSpec(preset(REAL), scale=Scale.REAL).write(source)

    def generate(*options: str) -> Usage:
        return run(mtpkit("generate", REAL, _fresh(folder), "--scale", "real", *options))

    def beside(command: Callable[[], Usage]) -> Usage:
        copy.unlink(missing_ok=True)  # a file of new pages, as the generator's
        return command()

    cat = partial(run, ["cat", str(shard(source))], stdout=copy)
    hashed = partial(run, python(alternatives.HASH_AND_WRITE, shard(source), copy))
    yield Pair(
        f"`mtpkit generate {REAL} --no-manifest`, 4.5 GB",
        partial(generate, "--no-manifest"),
        (Other("`cat` of the same bytes into a new file", partial(beside, cat), least=0.6),),
        times=9,  # memory that the machine has not had before makes some of them twice as long
    )
    yield Pair(
        "`mtpkit generate`, the same with its manifest of sha256",
        generate,
        (
            Other(
                "the same bytes read, hashed and written by two threads", partial(beside, hashed), least=0.8
            ),
        ),
    )
    copy.unlink()
    shutil.rmtree(folder)


def _folders(scratch: Path) -> Iterator[Pair]:
    first, second = scratch / "first", scratch / "second"
    shutil.copytree(first, second)
    both = [str(shard(first)), str(shard(second))]
    yield Pair(
        f"`mtpkit diff` of two equal folders, {REAL}, 9 GB",
        lambda: run(mtpkit("diff", first, second)),
        (
            Other("`cat` of both", lambda: run(["cat", *both])),
            Other(
                "safetensors' reader and `torch.equal`",
                lambda: run(python(alternatives.TORCH_EQUAL, *both)),
                least=1,
            ),
        ),
        times=3,
    )
    shutil.rmtree(second)
    shutil.rmtree(first)


def _headers(scratch: Path) -> Iterator[Pair]:
    folder = scratch / "large"
    CheckpointSpec(preset(LARGE), scale=Scale.REAL).write(folder, sparse=True)
    yield Pair(
        f"`mtpkit inspect`, {LARGE}, 190,000 tensors",
        lambda: run(mtpkit("inspect", folder)),
        (
            Other(
                "safetensors' reader: names, dtypes and shapes of all files",
                lambda: run(python(alternatives.READ_HEADERS, folder)),
            ),
        ),
        times=3,
    )
    shutil.rmtree(folder)


def _case(scratch: Path) -> Iterator[Pair]:
    from mtp_regression.adapters import MEGATRON_BRIDGE
    from mtp_regression.ranks.parallel import Parallel
    from mtp_regression.roundtrip.launch import StartedRanks, run_case
    from mtp_regression.stages.case import ONE_LAYOUT, Case

    folder = CheckpointSpec(preset(TINY)).write(scratch / "case")
    launch = StartedRanks()
    launch.warm(MEGATRON_BRIDGE)
    case = Case(MEGATRON_BRIDGE, folder, Parallel(ep=2))
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "mtp_regression", "roundtrip", str(folder), "--parallel", str(case.parallel)),
        *("--report", str(scratch / "torchrun.json")),
    ]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield Pair(
        "a case of two ranks (ep2), all stages, forked from the server that has imported the bridge",
        lambda: Usage(run_case(case, launch, scratch / "logs", ONE_LAYOUT).seconds),
        (Other("the same case under torchrun, where each rank imports it", lambda: run(torchrun), least=1),),
        times=2,
    )


def shard(folder: Path) -> Path:
    """Return the one file of weights of a folder."""
    [path] = folder.glob("*.safetensors")
    return path


def _fresh(folder: Path) -> Path:
    """Remove a folder, and return it for a command that makes it."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder

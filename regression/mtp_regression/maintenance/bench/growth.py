"""How the cost grows with the work: seconds of CPU at several sizes, and the slope between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

from mtp_regression.maintenance.bench import subjects
from mtp_regression.maintenance.bench.subjects import Work

STEEPEST = 1.25
"""What a slope may be: 1 is linear; sorting, and caches that no longer hold it all, take a little more."""
_SHORT = 0.5
"""Seconds; what takes less is done again, and the least counts."""
_CONSTANT = 0.01
"""Seconds; what takes less is mostly what does not grow, and is left out of a slope."""


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        name: What it is.
        sizes: How far.
        work: Gives, for a size and a new folder, the size as it is counted and what is done at it.
    """

    name: str
    sizes: Sequence[Any]
    work: Callable[[Any, Path], tuple[int, AbstractContextManager[Work]]]


def _of_model(experts: int, layers: int, count: int | None, folder: Path) -> Any:
    spec = subjects.model(experts, layers)
    return count or len(spec.tensors), subjects.files(spec, folder)


def _of_wrong_model(experts: int, folder: Path) -> Any:
    spec = subjects.model(experts, 4)
    return len(spec.tensors), subjects.all_wrong(spec, folder)


def _of_bytes(size: int, folder: Path) -> Any:
    spec = subjects.of_size(size)
    return sum(tensor.byte_count for tensor in spec.tensors), subjects.bytes_on_disk(spec, folder)


AXES = (
    Axis("experts", (8, 32, 128, 512), lambda size, folder: _of_model(size, 4, size, folder)),
    Axis("layers", (4, 12, 28, 60), lambda size, folder: _of_model(64, size, size, folder)),
    Axis(
        "tensors",
        ((8, 4), (64, 8), (256, 24), (1024, 60)),
        lambda size, folder: _of_model(size[0], size[1], None, folder),
    ),
    Axis("tensors, all wrong", (8, 32, 128, 512), _of_wrong_model),
    Axis("findings", (100, 1000, 10_000, 100_000), lambda n, folder: (n, subjects.findings(n, folder))),
    Axis("bytes", (1 << 20, 1 << 25, 1 << 29, 1 << 32), _of_bytes),
)


def measure(scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield a row an axis and a thing that is done.

    Args:
        scratch: Where 5 GB are free.
    """
    for axis in (*AXES, None):
        points = _of_axis(axis, scratch) if axis else _of_ranks(scratch)
        for what, found in points.items():
            slope = slope_of(found)
            yield {
                "axis": axis.name if axis else "ranks",
                "what": what,
                "points": [[size, round(seconds, 5)] for size, seconds in found],
                "slope": slope,
                "held": slope is None or slope <= STEEPEST,
            }


def _of_axis(axis: Axis, scratch: Path) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for size in axis.sizes:
        count, subject = axis.work(size, scratch / "growing")
        with subject as work:
            for what, do in work.items():
                points.setdefault(what, []).append((count, least(do, time.process_time)))
    return points


def _of_ranks(scratch: Path) -> dict[str, list[tuple[int, float]]]:
    """Start ranks that do nothing: seconds, for a fork server's children count as nobody's CPU."""
    from mtp_regression.ranks.run import run, warm

    warm(["torch"])

    def start(ranks: int) -> None:
        run(subjects.nothing, world_size=ranks, time_limit=60, log_folder=scratch / "ranks")

    sizes = (1, 2, 4, 8, 16)
    times = ((n, [least(partial(start, n), time.perf_counter) for _ in range(3)]) for n in sizes)
    return {"start, join, leave": [(n, min(seconds)) for n, seconds in times]}


def least(do: Callable[[], object], clock: Callable[[], float]) -> float:
    """Do something, again and again if it is short, and return the least seconds that it took.

    `timeit` does it without Python's garbage collector, which comes when it likes: the least of a short
    thing would be without it, and of a long one with it.
    """
    timer = Timer(do, timer=clock)
    found: list[float] = []
    while len(found) < 3:
        found.append(timer.timeit(1))
        if found[-1] > _SHORT:
            break
    return min(found)


def slope_of(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the exponent of growth: the slope of the line through the logarithms, by least squares.

    Args:
        points: Sizes, and what they cost.

    Returns:
        1 of what is linear, 2 of what is quadratic; None if fewer than two points are more than what does
        not grow.
    """
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points if seconds > _CONSTANT]
    if len(logs) < 2:
        return None
    across, up = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    rise = sum((x - across) * (y - up) for x, y in logs)
    run = sum((x - across) ** 2 for x, _ in logs)
    return round(float(rise / run), 2)

"""Which layouts of the main job see which mutants, and the smallest set of layouts that sees them all.

`grid.json` has what was measured; `python -m mtp_regression.maintenance mutants-grid` renews it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.mutants import bridges
from mtp_regression.mutants.run import jobs, judged, processes
from mtp_regression.mutants.table import MUTANTS
from mtp_regression.ranks.parallel import GRID, Parallel, read_layout
from mtp_regression.roundtrip.request import MAIN_JOB
from mtp_regression.stages.case import Case, Stage

DATA = Path(__file__).with_name("grid.json")

Seen = Mapping[str, Collection[str]]
"""Layouts that see a mistake, by the mistake."""


def known() -> Seen:
    """Read what was measured: of each mutant of several ranks the layouts that see it.

    None do of one that shows in other models alone, or in layouts that the main job does not have.
    """
    seen: Seen = json.loads(DATA.read_text(encoding="utf-8"))
    return seen


def axes(parallel: Parallel) -> Iterator[str]:
    """Yield what a layout does with a model, of all that a layout can do."""
    yield from (
        name.upper() for name in ("tp", "pp", "vpp", "ep", "etp", "cp") if getattr(parallel, name) > 1
    )
    stage = parallel.ranks // parallel.pp
    if stage > parallel.tp * parallel.cp:
        yield "replicas of a layer"
    if stage > parallel.ep * parallel.etp:
        yield "replicas of experts"


def required(seen: Seen, grid: Sequence[Parallel] = GRID) -> dict[str, set[str]]:
    """Return all that a grid is to show, and the layouts of the main job that show it."""
    found = {f"`{name}`": {*layouts} for name, layouts in seen.items() if layouts}
    for parallel in grid:
        for axis in axes(parallel):
            found.setdefault(axis, set()).add(str(parallel))
    return found


def smallest(seen: Seen, grid: Sequence[Parallel] = GRID) -> tuple[Parallel, ...]:
    """Return the layouts, with a single rank among them, that show all with the fewest ranks together."""
    wanted = required(seen, grid).values()
    covers = (
        chosen
        for count in range(1, len(grid) + 1)
        for chosen in combinations(grid, count)
        if Parallel() in chosen and all(layouts & {*map(str, chosen)} for layouts in wanted)
    )
    return min(covers, key=lambda chosen: (sum(parallel.ranks for parallel in chosen), len(chosen)))


def of_several_ranks() -> list[str]:
    """Return the mutants that are shown by one layout of several ranks; every grid has a single rank."""
    layouts = {name: read_layout(mutant.layout) for name, mutant in MUTANTS.items()}
    return [name for name, layout in layouts.items() if isinstance(layout, Parallel) and layout.ranks > 1]


def measure(grid: Sequence[Parallel] = GRID) -> dict[str, list[str]]:
    """Take mutants of several ranks through the main job in memory; returns the layouts that see each.

    One that a single rank shows after all is not taken through the other layouts.
    """
    names = of_several_ranks()
    with tempfile.TemporaryDirectory(prefix="mtp-mutants-") as name:
        scratch = Path(name)
        checkpoints = [CheckpointSpec(preset(model)).write(scratch / model) for model in MAIN_JOB]
        with processes(jobs()) as pool:
            layouts = pool.map(partial(seen_in, grid, checkpoints, scratch), names)
            return dict(zip(names, layouts, strict=True))


def seen_in(grid: Sequence[Parallel], checkpoints: Sequence[Path], logs: Path, name: str) -> list[str]:
    """Take a mutant through layouts, the smallest first; returns those in which any checkpoint shows it."""
    found = []
    for parallel in sorted(grid, key=lambda parallel: parallel.ranks):
        if any(
            _sees(name, stage, at, parallel, logs) for stage in MUTANTS[name].seen_by for at in checkpoints
        ):
            found.append(str(parallel))
            if parallel.ranks == 1:
                break
    return found


def _sees(name: str, stage: Stage, checkpoint: Path, parallel: Parallel, logs: Path) -> bool:
    case = Case(f"{bridges.__name__}:{name}", checkpoint, parallel)
    return not all(record.passed for record in judged(case, logs / name, [stage]))

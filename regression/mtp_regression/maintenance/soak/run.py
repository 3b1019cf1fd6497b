"""Draws failures and the round trips they are in, and runs each twice."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path
from unittest import mock

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.maintenance.soak.failure import KINDS, USES, Failure
from mtp_regression.maintenance.soak.killed import start_and_kill
from mtp_regression.maintenance.soak.left import MARK, STEEPEST, Watch
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.roundtrip.launch import StartedRanks, run_case
from mtp_regression.stages.case import ONE_LAYOUT, Case, Stage

PRESETS = ("qwen3.5-35b-a3b", "qwen3.6-35b-a3b")
LAYOUTS = tuple(map(Parallel.parse, ("tp1", "tp2", "ep2", "pp2", "tp2 ep2", "pp2 vpp2", "tp2 pp2", "ep4")))
TIME_LIMIT = 90.0
"""Seconds that a case may take."""
HANG_LIMIT = 30.0
"""The same of a case with a rank that hangs, which takes them all."""
_TENSORS = 24
"""Fewer than any rank yields, of parameters or of the half of a stream that is left half-way."""
_SELDOM = 12
"""One failure in so many hangs."""

_KILLED = 25
"""Before one failure in so many, a command is killed."""

Came = Mapping[Stage, tuple[object, ...]]
"""What each stage came to: its crash, or how many findings it had on each rank."""


@dataclass(frozen=True)
class Drawn:
    """A round trip with a failure.

    Attributes:
        preset: Name of the checkpoint's preset.
        parallel: The parallel layout.
        stages: What is taken.
        failure: The failure.
    """

    preset: str
    parallel: Parallel
    stages: tuple[Stage, ...]
    failure: Failure

    @classmethod
    def of(cls, seed: int, number: int) -> Drawn:
        """Draw one; the same for the same seed and number."""
        source = random.Random(f"{seed}/{number}")  # noqa: S311 (nothing is kept secret by it)
        parallel, place = source.choice(LAYOUTS), source.choice(list(USES))
        used = source.choice(USES[place])
        stages = {used, *source.sample(ONE_LAYOUT, source.randrange(3))}
        kinds = [kind for kind in KINDS if kind != "hang" and (kind != "torn" or place == "save")]
        kind = "hang" if source.randrange(_SELDOM) == 0 else source.choice(kinds)
        rank = 0 if kind == "torn" else source.randrange(parallel.ranks)  # the first alone writes
        after = source.randrange(_TENSORS if place in ("parameters", "stream") else 2)
        failure = Failure(place, kind, rank, after, source.random() < 1 / 2)
        return cls(source.choice(PRESETS), parallel, tuple(s for s in ONE_LAYOUT if s in stages), failure)

    def __str__(self) -> str:
        return f"{self.preset}, {self.parallel}, {' '.join(self.stages)}: {self.failure}"

    def wrong(self, came: Came) -> Iterator[str]:
        """Say which stages came to something else than they should."""
        for stage in self.stages:
            expected = self.failure.crash(stage)
            found = came[stage][:3] if came[stage][0] != "ended" else None
            if found != expected:
                yield f"{stage}: {found or 'ended well'}, not {expected or 'well'}"


def main(runs: int, seed: int) -> int:
    """Run drawn round trips, each twice, and print what is not as it should be, and what is left behind.

    At times a command is killed before one: nothing of it may be left after that.

    Args:
        runs: How many round trips there are; every failure takes two.
        seed: Of what is drawn.

    Returns:
        0 if both runs of each failure came to the same, and to what it should come to, nothing was left, and
        memory did not grow; 1 if not.
    """
    watch, problems = Watch(), 0
    with tempfile.TemporaryDirectory(prefix="mtp-soak-") as name, own_temporary_files(Path(name, "tmp")):
        scratch = Path(name)
        folders = {name: CheckpointSpec(preset(name)).write(scratch / name) for name in PRESETS}
        for number in range((runs + 1) // 2):
            drawn = Drawn.of(seed, number)
            adapter = f"mtp_regression.maintenance.soak.adapter:{drawn.failure}"
            case = Case(adapter, folders[drawn.preset], drawn.parallel)
            if number % _KILLED == _KILLED // 2:
                start_and_kill(scratch / "killed" / str(number))
            launch = StartedRanks(HANG_LIMIT if drawn.failure.kind == "hang" else TIME_LIMIT)
            twice = [run_case(case, launch, scratch / "logs", drawn.stages) for _ in range(2)]
            first, second = map(came_of, twice)
            found = [] if first == second else [f"once {first}, then {second}"]
            found += [*drawn.wrong(first), *watch.left()]
            print(f"{number}: {drawn}: {'; '.join(found) or 'the same twice'}", flush=True)
            if first != second:
                print(*(crash.text for one in twice for crash in one.crashes.values()), sep="\n\n")
            problems += bool(found)
    memory = watch.growth()
    told = ", ".join(
        f"{name} {'?' if grown is None else f'{grown / 1024:+.0f}'} kB" for name, grown in memory.items()
    )
    problems += sum(grown is not None and grown > STEEPEST for grown in memory.values())
    print(f"seed {seed}: {number + 1} failures, each twice: {problems} problems; memory, a failure: {told}")
    return 1 if problems else 0


@contextmanager
def own_temporary_files(folder: Path) -> Iterator[None]:
    """Have this process, and all that come of it, keep temporary files in a folder, and be marked."""
    folder.mkdir()
    util.get_temp_dir()  # multiprocessing's own, which it removes at this process's end: after this folder
    variables = {"TMPDIR": str(folder), MARK: str(folder)}
    with mock.patch.dict(os.environ, variables), mock.patch.object(tempfile, "tempdir", str(folder)):
        yield


def came_of(evidence: Evidence) -> Came:
    """Return what two runs are to have in common."""
    ended = {
        stage: ("ended", *(len(outcome.findings) for outcome in outcomes))
        for stage, outcomes in evidence.outcomes.items()
    }
    crashed = {
        stage: (crash.stage, crash.rank, crash.kind, crash.exception, crash.message)
        for stage, crash in evidence.crashes.items()
    }
    return {**ended, **crashed}

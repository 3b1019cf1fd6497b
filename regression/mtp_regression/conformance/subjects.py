"""What a bridge is checked with: checkpoints, and the layouts, stages and uses of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtp_checkpoint import inspect
from mtp_checkpoint.errors import CheckpointError
from mtp_fixtures import FAULTS, CheckpointSpec, preset
from mtp_fixtures.faults.write import write_faulty
from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.scenarios.scenario import Use
from mtp_regression.scenarios.table import SCENARIOS
from mtp_regression.stages.case import Stage

_ONE_RANK = (Parallel(),)


@dataclass(frozen=True)
class Subject:
    """One checkpoint that a bridge is checked with.

    Attributes:
        name: What ids of checks begin with.
        write: Writes it into a folder that does not exist, and returns that or one inside it.
        about: What it is, in a few words.
        layouts: The parallel layouts; none takes all that the bridge can do.
        stages: The stages; none takes all that the bridge has.
        use: How the bridge is used.
        broken: Whether it contradicts itself, and is to be refused.
    """

    name: str
    write: Callable[[Path], Path]
    about: str
    layouts: Sequence[Parallel | Resharding] = ()
    stages: Sequence[Stage] = ()
    use: Use = Use.PLAIN
    broken: bool = False


def subjects() -> Iterator[Subject]:
    """Yield both layouts of MTP experts, then the scenarios, then the faults."""
    for name, model in {"per-expert": "qwen3.5-35b-a3b", "packed": "qwen3.6-35b-a3b"}.items():
        yield Subject(name, CheckpointSpec(preset(model)).write, f"{model}, tiny: MTP experts {name}")
    for scenario in SCENARIOS:
        if not (scenario.fault or scenario.refused):
            layouts, stages = (scenario.parallel,), scenario.stages
            name = _slug(f"{scenario.name} {scenario.preset}")
            yield Subject(name, scenario.write, scenario.name, layouts, stages, scenario.use)
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    for fault in FAULTS.values():
        write = partial(write_faulty, spec, fault.name)
        if not fault.expected.startswith("none"):  # those load
            yield Subject(f"fault-{fault.name}", write, fault.description, _ONE_RANK, broken=True)


def wrong_in(folder: Path) -> list[str]:
    """Return words for what is wrong with a checkpoint: keys, layers, fields, files of the first problem."""
    try:
        problems: Sequence[str] = inspect(folder).problems
    except CheckpointError as error:
        problems = error.problems
    words = [word.rstrip(".") for word in re.findall(r"\w[\w-]*(?:[._][\w-]+)+\.?|layer \d+", problems[0])]
    named = list(dict.fromkeys(word for word in words if not word.startswith("config.json")))
    return named or [problems[0].partition(":")[0]]  # such as "MTP"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")

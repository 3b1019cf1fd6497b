"""Which bridge tests are to judge: the right one, or in a run of `mtpkit mutants` a mutant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.mutants.bridges import with_mistake
from mtp_regression.mutants.table import MUTANTS

MUTANT = "MTPKIT_MUTANT"
"""The environment's variable that names the mutant; without it bridges are right."""
ASKED = "MTPKIT_MUTANT_ASKED"
"""That which names a file: a line for each bridge that tests ask for."""

Class = TypeVar("Class", bound=type)


def bridge_under_test() -> type[InMemoryBridge]:
    """Return the in-memory bridge that tests are to judge: the right one, unless they are judged themselves.

    `mtpkit mutants --suite COMMAND` runs tests once with each mutant, which this is then, and counts how many
    of the mutants some test fails with.
    """
    return mutated(InMemoryBridge)


def mutated(adapter: Class) -> Class:
    """Return an adapter's class with the mistake of this run of `mtpkit mutants`, if it can make it.

    Any bridge can make those mistakes that are in the tensors it exports; the in-memory bridge makes all.
    Fixtures of the kit and `BridgeConformance` do this by themselves.
    """
    if path := os.environ.get(ASKED):
        kind = "in-memory" if issubclass(adapter, InMemoryBridge) else "other"
        with Path(path).open("a", encoding="utf-8") as asked:
            asked.write(f"{kind} {adapter.__module__}:{adapter.__qualname__}\n")
    mutant = MUTANTS.get(os.environ.get(MUTANT, ""))
    if mutant is None or not (mutant.of_any_bridge or issubclass(adapter, InMemoryBridge)):
        return adapter
    return with_mistake(adapter, mutant)  # type: ignore[return-value]

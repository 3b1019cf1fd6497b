"""A run of the suite on one bridge: which of its checks, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from mtp_regression.adapters.find import AdapterError, Examined
from mtp_regression.conformance.subjects import Subject, subjects, wrong_in
from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.ranks.processes.fork_server import PreloadError
from mtp_regression.ranks.scratch import scratch
from mtp_regression.ranks.world import World
from mtp_regression.roundtrip.asked import conformance_command
from mtp_regression.roundtrip.launch import StartedRanks
from mtp_regression.roundtrip.plan import Plan, Planned
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.scenarios.scenario import Use
from mtp_regression.stages.case import CHECKS, NEEDS, Case, Stage

_UNWRITTEN = Path("unwritten")


@dataclass(frozen=True, kw_only=True)
class Conformance(Request):
    """What a run of the suite is asked for.

    Attributes:
        only: Patterns of ids of checks, such as "packed-*" and "*::stream"; none takes all.
    """

    only: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command line that asks for the same."""
        return conformance_command(self.adapter, self.only)

    @contextmanager
    def plan(self, adapter: Examined, world: World | None) -> Iterator[Plan]:
        """Say what to run, in a `with` block at whose end the checkpoints are gone.

        Raises:
            CannotRunError: No check has such an id, or a failure is declared of none, or none of the checks
                is for as many ranks as there are.
        """
        declared = self.declared(adapter)
        self.ids(adapter, *(pattern for entry in declared for pattern in entry.checks))
        everything = [*self.everything(adapter, world)]
        with scratch("mtp-checkpoints-") as folder:
            planned = [*self._written(everything, folder)]
            if world is not None and not planned:
                raise CannotRunError(f"none of the checks is for {world.size} ranks")
            yield Plan(planned, declared, (), self._not_run(adapter))

    def everything(
        self, adapter: Examined, world: World | None = None
    ) -> Iterator[tuple[Subject, Case, list[Stage]]]:
        """Yield all that the bridge can be checked with; the cases' checkpoints are not written yet."""
        for subject in subjects():
            name = self.adapter if subject.use is Use.PLAIN else adapter.uses.get(subject.use, "")
            for layout in self._layouts(subject, adapter) if name else ():
                if world is None or layout.ranks == world.size:
                    case = Case(name, _UNWRITTEN, layout, subject.name, wrong=["?"] if subject.broken else ())
                    stages = [
                        stage
                        for stage in case.takes(subject.stages or CHECKS)
                        if NEEDS.get(stage) not in adapter.lacks
                    ]
                    if stages:
                        yield subject, case, stages

    def listed(self) -> tuple[list[str], dict[str, str]]:
        """Return the ids of the checks that are asked for, without running any.

        Returns:
            The ids; and what the adapter cannot be asked for, with the reason.

        Raises:
            CannotRunError: It is no adapter, or cannot be imported, or no check is called like that.
        """
        try:
            _, adapter = StartedRanks().warm(self.adapter)
        except (AdapterError, PreloadError) as error:
            raise CannotRunError(str(error)) from None
        return self.ids(adapter), self._not_run(adapter)

    def ids(self, adapter: Examined, *patterns: str) -> list[str]:
        """Return the ids of the checks that are asked for, whatever ranks there are.

        Args:
            adapter: What is known of it.
            patterns: Others that have to be of a check.

        Raises:
            CannotRunError: No check is called like one of the patterns.
        """
        ids = [case.check(stage) for _, case, stages in self.everything(adapter) for stage in stages]
        for pattern in (*self.only, *patterns):
            if not any(fnmatchcase(check, pattern) for check in ids):
                raise CannotRunError(f"no check is called {pattern}; there are {ids[0]}, {ids[-1]} ...")
        return [check for check in ids if self.wants(check)]

    def wants(self, check: str) -> bool:
        """Whether a check is asked for."""
        return not self.only or any(fnmatchcase(check, pattern) for pattern in self.only)

    def _layouts(self, subject: Subject, adapter: Examined) -> Sequence[Parallel | Resharding]:
        if not subject.layouts:
            return adapter.grid
        several = any(parallel.ranks > 1 for parallel in adapter.grid)
        if several or all(layout.ranks == 1 for layout in subject.layouts):
            return subject.layouts
        # A bridge without ranks: the checkpoint is what the check is about.
        return () if any(isinstance(layout, Resharding) for layout in subject.layouts) else (Parallel(),)

    def _written(
        self, everything: Sequence[tuple[Subject, Case, list[Stage]]], folder: Path
    ) -> Iterator[Planned]:
        written: dict[str, Path] = {}
        for subject, case, stages in everything:
            chosen = [stage for stage in stages if self.wants(case.check(stage))]
            if not chosen:
                continue
            if subject.name not in written:
                written[subject.name] = subject.write(folder / subject.name)
            checkpoint = written[subject.name]
            wrong = wrong_in(checkpoint) if subject.broken else ()
            yield replace(case, checkpoint=checkpoint, wrong=wrong), chosen

    def _not_run(self, adapter: Examined) -> dict[str, str]:
        """Return what the adapter does without, so that a report shows it."""
        stages = {stage: f"no {role}" for stage, role in NEEDS.items() if role in adapter.lacks}
        scenarios = Counter(subject.use for subject in subjects() if subject.use not in adapter.uses)
        del scenarios[Use.PLAIN]
        uses = (f"{count} scenario{'s' * (count != 1)} of {use}" for use, count in scenarios.items())
        return stages | dict.fromkeys(uses, "no such use")

"""Cases that run at the same time, as many as there are cores for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.roundtrip.launch import StartedRanks, run_case
from mtp_regression.roundtrip.plan import Planned
from mtp_regression.roundtrip.room import free_cores
from mtp_regression.stages.case import Case, Stage

RunCase = Callable[[Case, Sequence[Stage]], Evidence]
_AGAIN_SECONDS = 0.1


def side_by_side(
    run: RunCase, cases: Sequence[Planned], cores: int, stop: Callable[[], None]
) -> Iterator[Evidence]:
    """Run cases in threads; each begins as soon as there are as many idle cores as it has ranks.

    A case with more ranks than there are cores runs alone.

    Args:
        run: Runs one case.
        cases: The cases.
        cores: How many there are.
        stop: Ends the cases that run. It is called, again and again until none does, if one of them raises or
            the loop over this iterator is left: after Ctrl-C, for example.

    Yields:
        The evidence on each case, in the order of the cases.
    """
    waiting = list(range(len(cases)))
    running: dict[Future[Evidence], int] = {}
    ended: dict[int, Evidence] = {}
    with ThreadPoolExecutor(cores) as threads:
        try:
            for number in range(len(cases)):
                while number not in ended:
                    for later in list(waiting):
                        used = sum(_ranks(cases[other]) for other in running.values())
                        if not running or used + _ranks(cases[later]) <= cores:
                            waiting.remove(later)
                            running[threads.submit(run, *cases[later])] = later
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        ended[running.pop(future)] = future.result()
                yield ended.pop(number)
        except BaseException:
            while wait(running, _AGAIN_SECONDS).not_done:
                stop()
            raise


def run_side_by_side(launch: StartedRanks, logs: Path, cases: Sequence[Planned]) -> Iterator[Evidence]:
    """Run cases on ranks that are started here, two a core; see `side_by_side` and `launch.run_case`.

    The modules of their adapters are imported before: a later import would end the ranks that run.
    """
    launch.warm_all(case.adapter for case, _ in cases)

    def run(case: Case, stages: Sequence[Stage]) -> Evidence:
        return run_case(case, launch, logs, stages)

    # Ranks wait for each other, or for their end, about half of the time.
    cores = 2 * free_cores(case.checkpoint for case, _ in cases)
    return side_by_side(run, cases, cores, launch.stop)


def _ranks(planned: Planned) -> int:
    case, _ = planned
    return case.parallel.ranks

"""The suite as tests of pytest: a class with a test for each check, and a fixture for a single round trip."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from filelock import FileLock
from rich.console import Console

from mtp_fixtures.plugin import session_folder
from mtp_regression.conformance.not_collected import NOT_COLLECTED
from mtp_regression.conformance.run import name_of
from mtp_regression.conformance.suite import Conformance
from mtp_regression.ranks.parallel import read_layout
from mtp_regression.reporting.folding.fold import fold
from mtp_regression.reporting.record import Record
from mtp_regression.reporting.terminal import cut, findings
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.roundtrip.run import round_trips
from mtp_regression.stages.case import Stage

_SENTENCES = 3
"""Things that are told in the line of a test that fails; its report has all."""


class BridgeConformance:
    """Tests of a bridge: a subclass, whose name begins with "Test", has one test for each check.

    The checks of one case, which is a checkpoint in a layout, run together when the first of them is due;
    with pytest-xdist one worker runs them, and others read what became of them. Checks that need a role which
    the adapter does not have are not collected: the summary names them.

    Attributes:
        bridge: The adapter's class, or its name. Ranks import it: it belongs into a module, and not into the
            tests' own.
        only: Patterns of ids of checks; none takes all.
        time_limit: Seconds a case may take; None takes 300.
    """

    bridge: ClassVar[type | str] = ""
    only: ClassVar[Sequence[str]] = ()
    time_limit: ClassVar[float | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each check."""
        if "check" not in metafunc.fixturenames:
            return
        bridge = type(self).bridge or metafunc.config.getoption("mtp_bridge")
        suite = _Suite(name_of(bridge), type(self).only, type(self).time_limit)
        try:
            checks, lacking = suite.request().listed()
        except CannotRunError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        told = metafunc.config.stash.setdefault(NOT_COLLECTED, [])
        told += [f"{type(self).__name__}: not collected: {what}: {why}" for what, why in lacking.items()]
        marked = [pytest.param(suite, check, id=check, marks=_group(suite, check)) for check in checks]
        metafunc.parametrize(("suite", "check"), marked)

    def test(self, suite: _Suite, check: str, request: pytest.FixtureRequest) -> None:
        """Look at what became of one check."""
        chosen = [
            str(item.callspec.params["check"])
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and item.callspec.params.get("suite") == suite
        ]
        records = suite.case_of(check, chosen, _folder(request))
        [record] = [record for record in records if record.check == check]
        places = ("checkpoint", record.checkpoint), ("layout", record.parallel), ("stage", record.stage)
        request.node.user_properties += [*places, ("verdict", str(record.verdict))]
        _show(request, records=[record])
        assert record.passed, f"{check}: {_sentences([record])}"


def _group(suite: _Suite, check: str) -> pytest.MarkDecorator:
    return pytest.mark.xdist_group(f"{suite.adapter} {check.rpartition('::')[0]}")


@dataclass(frozen=True)
class _Suite:
    """The checks of a class.

    Attributes:
        adapter: Name of the adapter.
        only: Patterns of the checks.
        time_limit: Seconds a case may take.
    """

    adapter: str
    only: Sequence[str]
    time_limit: float | None

    def request(self, only: Sequence[str] = (), report_path: Path = Path()) -> Conformance:
        """Ask for checks; of none, for those of the class."""
        return Conformance(
            adapter=self.adapter,
            only=only or self.only,
            report_path=report_path,
            time_limit=self.time_limit,
        )

    def case_of(self, check: str, chosen: Sequence[str], folder: Path) -> list[Record]:
        """Give the records of a check's case, which is run unless this or another worker has.

        Args:
            check: The id of a check.
            chosen: Those of the checks that pytest runs.
            folder: Where reports go; the same for all workers.
        """
        case = check.rpartition("::")[0]
        together = [other for other in chosen if other.rpartition("::")[0] == case]
        report = folder / f"{case}.json"
        with FileLock(f"{report}.lock"):
            if not report.exists():
                told = _quietly(self.request(together, folder / case / "report.json"))
                report.write_text(json.dumps(told), encoding="utf-8")
        return [Record.of(fields) for fields in json.loads(report.read_text(encoding="utf-8"))["records"]]


def _quietly(request: Request) -> dict[str, Any]:
    report = round_trips(request, Console(file=io.StringIO(), width=110))
    if report is None:
        pytest.fail("under torchrun or Slurm, pytest cannot run it: use run_checks")
    return report


def _folder(request: pytest.FixtureRequest) -> Path:
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    name = f"mtp-conformance-{request.cls.__module__}-{request.cls.__qualname__}" if request.cls else "mtp"
    folder = session_folder(request.config, factory) / name
    folder.mkdir(exist_ok=True)
    return folder


def _sentences(records: Sequence[Record]) -> str:
    """Say in one line what is wrong, the gravest first."""
    return "; ".join(cut(str(folded)) for folded in fold(records)[:_SENTENCES])


def _show(request: pytest.FixtureRequest, records: Sequence[Record]) -> None:
    """Add what is wrong to what pytest prints of a test that fails."""
    if text := "\n".join(findings(records)):
        request.node.add_report_section("call", "round trip", text)


@dataclass(frozen=True)
class RoundTrip:
    """What became of a round trip.

    Attributes:
        records: One for each stage.
    """

    records: Sequence[Record]

    @property
    def passed(self) -> bool:
        """Whether every stage is exact, but for what is declared."""
        return bool(self.records) and all(record.passed for record in self.records)

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each stage."""
        return {record.stage: str(record.verdict) for record in self.records}

    def __repr__(self) -> str:
        told = ", ".join(f"{stage} {verdict}" for stage, verdict in self.verdicts.items())
        wrong = _sentences(self.records)
        return f"<round trip: {told}; {wrong}>" if wrong else f"<round trip: {told}>"


def taker(request: pytest.FixtureRequest, folder: Path) -> Callable[..., RoundTrip]:
    """Make the function that the fixture `roundtrip` gives; the plugin describes it."""

    def roundtrip(
        bridge: type | str,
        checkpoint: Path,
        parallel: str = "tp1",
        *,
        stages: Sequence[str] = (),
        time_limit: float = 300.0,
    ) -> RoundTrip:
        asked = Request(
            adapter=name_of(bridge),
            checkpoints=[checkpoint],
            parallels=[read_layout(parallel)],
            stages=[*map(Stage, stages)],
            time_limit=time_limit,
            report_path=folder / "roundtrip.json",
        )
        records = [Record.of(fields) for fields in _quietly(asked)["records"]]
        _show(request, records)
        return RoundTrip(records)

    return roundtrip

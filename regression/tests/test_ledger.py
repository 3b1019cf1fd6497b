"""Where a case's time goes: each moment once, in every rank, and told in a line."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.ranks.ledger import Ledger, outermost, waited
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.reporting.tables import where_time_went
from mtp_regression.roundtrip.evidence import Evidence
from mtp_regression.roundtrip.judge import judge
from mtp_regression.roundtrip.launch import StartedRanks, run_case, take_in
from mtp_regression.stages.case import Case, Stage
from mtp_regression.stages.traces import leave_ledger

STAGES = (Stage.NATIVE, Stage.STREAM, Stage.SAVED)


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass."""
    now = 100.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    return wait


def test_each_moment_is_booked_once(after: Callable[[float], None]) -> None:
    ledger = Ledger()
    ledger.since(98.0, "start")
    after(1)  # between two steps: nobody's
    with ledger.step("load"):
        after(4)
        with ledger.step("build"):
            after(8)
            with ledger.step("wait"):
                after(16)
        after(32)
    with ledger.step("load"):
        after(64)
    assert ledger.seconds == {"start": 2, "load": 4 + 32 + 64, "load.build": 8, "load.build.wait": 16}
    assert waited(ledger.seconds) == 16
    assert ledger.until == time.monotonic()


def fail(ledger: Ledger, after: Callable[[float], None]) -> None:
    with ledger.step("load"), ledger.step("build"):
        after(1)
        raise ValueError("x")


def test_a_step_that_fails_is_booked_and_left(after: Callable[[float], None]) -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match="x"):
        fail(ledger, after)
    with ledger.step("close"):
        after(2)
    assert ledger.seconds == {"load": 0, "load.build": 1, "close": 2}


def test_ledgers_are_added_up_by_outermost_steps() -> None:
    assert [*outermost([{"load": 1, "load.build": 2, "saved": 1}, {"saved.save": 4}]).items()] == [
        ("saved", 5),
        ("load", 3),
    ]


def evidence(case: Case, tmp_path: Path) -> Evidence:
    return run_case(case, StartedRanks(in_threads=True), tmp_path / "logs", STAGES)


class Slow(InMemoryBridge):
    """Takes seconds, beside which the time between the steps is little on a busy machine too."""

    def load(self, checkpoint: Path) -> None:
        time.sleep(1)
        super().load(checkpoint)

    def save(self, folder: Path) -> None:
        time.sleep(1)
        super().save(folder)


def test_steps_of_a_case_are_its_time(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    case = Case(f"{__name__}:{Slow.__name__}", make_checkpoint("qwen3.5-0.8b"), Parallel(tp=2))
    found = evidence(case, tmp_path)
    assert 0.8 * found.seconds < sum(found.steps.values()) <= found.seconds
    assert {
        "load",
        "load.build",
        "native",
        "stream.export",
        "saved.save",
        "close",
        "end",
    } <= found.steps.keys()
    records = judge(case, found, ())
    assert [record.case_steps.keys() for record in records] == [found.steps.keys()] * len(STAGES)
    most = max(outermost([found.steps]), key=outermost([found.steps]).__getitem__)
    assert where_time_went([records]).startswith(f"{most} ")
    assert len(where_time_went([records]).split(", ")) <= 5


def test_the_rank_that_waited_least_tells(tmp_path: Path) -> None:
    found = Evidence()
    for rank, seconds in enumerate(({"saved": 1.0, "saved.wait": 3.0}, {"saved": 3.5, "saved.wait": 0.5})):
        ledger = Ledger()
        ledger.seconds = seconds
        leave_ledger(tmp_path, rank, ledger)
    take_in(found, tmp_path, (), 2)
    assert found.steps == {"saved": 3.5, "saved.wait": 0.5}


class CannotSave(Slow):
    """Fails in the first stage, so that its case is run again for the other."""

    def save(self, folder: Path) -> None:
        raise OSError(f"{folder}: cannot be saved")


def test_runs_of_a_case_are_added_up(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    case = Case(f"{__name__}:{CannotSave.__name__}", make_checkpoint("qwen3.5-0.8b"), Parallel())
    stages = (Stage.SAVED, Stage.STREAM)
    found = run_case(case, StartedRanks(in_threads=True), tmp_path / "logs", stages)
    assert {*found.crashes} == {Stage.SAVED}
    assert found.steps["saved.save"] > 0
    assert 0.8 * found.seconds < sum(found.steps.values()) <= found.seconds


def test_nothing_is_said_without_steps() -> None:
    assert outermost([{}]) == {}

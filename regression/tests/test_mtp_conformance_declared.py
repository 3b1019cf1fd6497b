"""What an adapter declares of itself: no failure where it happens, one where it does not.

The bridges are of numpy, and their ranks threads: nothing here imports torch.
"""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mtp_regression import CannotRunError
from mtp_regression.conformance.suite import Conformance

from .conftest import RunSuite
from .test_mtp_conformance import ROUND, failed


def test_what_is_declared_is_no_failure_and_is_counted(run_suite: RunSuite) -> None:
    records = run_suite("Declares", *ROUND)
    assert failed(records) == set()
    assert records["packed-ep2::stream"]["declared"] == 1
    assert records["packed-ep2::saved"]["declared"] == 0


def test_what_is_declared_and_does_not_happen_is_one(run_suite: RunSuite) -> None:
    records = run_suite("DeclaresTooMuch", *ROUND)
    assert failed(records) == {"packed-tp1::saved", "packed-ep2::saved"}
    assert records["packed-tp1::saved"]["stale"] == ["mtp.fc.weight: rows are reversed"]


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("DeclaresNoCheck", "no check is called packed-tp3::stream"),
        ("DeclaresWithoutReason", "declared failures: .* has no reason"),
    ],
)
def test_a_declaration_of_nothing_is_an_error(run_suite: RunSuite, adapter: str, message: str) -> None:
    with pytest.raises(CannotRunError, match=message):
        run_suite(adapter, *ROUND)


def test_declared_of_a_layout_and_of_what_the_source_lacks(run_suite: RunSuite) -> None:
    records = run_suite("YieldsTwice", "packed-tp1::stream", "packed-pp2::stream")
    assert failed(records) == set()
    assert records["packed-pp2::stream"]["declared"] == 2


def test_declared_errors(run_suite: RunSuite) -> None:
    records = run_suite("CannotSave", *ROUND)
    assert failed(records) == set()
    assert records["packed-tp1::saved"]["crash"]["message"] == "no room for saved"


def test_declared_in_a_file(tmp_path: Path) -> None:
    from mtp_regression.roundtrip.run import round_trips

    file = tmp_path / "declared.toml"
    file.write_text(
        '[[declared]]\nchecks = "*::stream"\ntensor = "mtp.fc.*"\nverdict = "wrong"\nreason = "reversed"\n'
    )
    request = Conformance(
        adapter="in_memory_mistakes:ReversesRows",
        only=["packed-tp1::stream"],
        declared_path=file,
        report_path=tmp_path / "report.json",
    )
    report = round_trips(request, Console(file=io.StringIO()))
    assert report is not None
    assert report["passed"]
    file.write_text('[[declared]]\nchecks = "*::stream"\nwhy = "reversed"\n')
    with pytest.raises(CannotRunError, match="why: no field"):
        round_trips(request, Console(file=io.StringIO()))

"""The suite on any bridge: its checks, what an adapter declares, and what it cannot be asked for.

The bridges are of numpy, and their ranks threads: nothing here imports torch.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtp_checkpoint import inspect
from mtp_fixtures import FAULTS
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression import CannotRunError, Device, World
from mtp_regression.adapters.find import examine
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.conformance.subjects import subjects
from mtp_regression.conformance.suite import Conformance
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.oracle.source import AbsentError
from mtp_regression.ranks.parallel import Coordinates, Parallel
from mtp_regression.scenarios.scenario import Use

from .conftest import RunSuite

YIELDS_TWICE = "in_memory_mistakes:YieldsTwice"
MUTANTS = "mtp_regression.mutants.bridges"
ROUND = ("packed-tp1::*", "packed-ep2::*")


def failed(records: dict[str, dict[str, Any]]) -> set[str]:
    return {check for check, record in records.items() if not record["passed"]}


def test_ids_are_unique_and_name_checkpoint_layout_and_stage(tmp_path: Path) -> None:
    checks, lacking = Conformance(adapter="in-memory", report_path=tmp_path).listed()
    assert len(set(checks)) == len(checks) > 300
    assert {"packed-tp2-ep2::stream", "per-expert-ep8::native", "fault-half-packed-tp1::refused"} <= {*checks}
    assert lacking["forward"] == "no logits"


def test_a_right_bridge_passes(run_suite: RunSuite) -> None:
    records = run_suite("in-memory", *ROUND, "per-expert-pp2::*")
    assert len(records) == 18
    assert failed(records) == set()


def test_every_fault_that_contradicts_itself_is_a_check_and_is_refused(run_suite: RunSuite) -> None:
    broken = {subject.name for subject in subjects() if subject.broken}
    records = run_suite("in-memory", "fault-*")
    assert {record["checkpoint"] for record in records.values()} == broken
    assert failed(records) == set()


def test_faults_that_load_are_no_checks(make_checkpoint: MakeCheckpoint) -> None:
    checks = {subject.name for subject in subjects()}
    for name in FAULTS:
        if f"fault-{name}" not in checks:
            assert not inspect(make_checkpoint(fault=name)).problems, name


def test_what_is_broken_must_be_refused_and_named(run_suite: RunSuite) -> None:
    fault = "fault-half-packed-tp1::refused"
    [finding] = run_suite(f"{MUTANTS}:absent-mtp-is-zeros", fault)[fault]["tensors"]
    assert finding["detail"].startswith("was loaded: ")
    [finding] = run_suite(f"{MUTANTS}:refuses-mutely", fault)[fault]["tensors"]
    assert finding["detail"].startswith("names none of layer 0, mtp.layers.0.mlp.experts.down_proj")


def test_a_mistake_is_the_checks_that_show_it_and_no_other(run_suite: RunSuite) -> None:
    stages = ("stream", "retrained", "reloaded")
    assert failed(run_suite("ReversesRows", *ROUND)) == {
        f"packed-{layout}::{stage}" for layout in ("tp1", "ep2") for stage in stages
    }


def test_roles_that_are_not_there_are_told_and_not_run(run_suite: RunSuite) -> None:
    records = run_suite("StreamsAlone", *ROUND)
    assert failed(records) == set()
    assert {record["stage"] for record in records.values()} == {"native", "stream", "retrained"}
    told: dict[str, str] = run_suite.report["stages_not_run"]  # type: ignore[attr-defined]
    assert told["saved"] == "no save"
    scenarios = Counter(subject.use for subject in subjects() if subject.use is not Use.PLAIN)
    assert len(set(scenarios.values())) < len(scenarios)  # some uses have as many scenarios as others
    assert {f"{use}: no such use" for use in scenarios} == {
        f"{what.rpartition(' ')[2]}: {why}" for what, why in told.items() if "scenario" in what
    }
    assert sum(int(what.split()[0]) for what in told if "scenario" in what) == scenarios.total()


def test_parameters_of_other_names_are_told_in_one_line(run_suite: RunSuite) -> None:
    assert failed(run_suite("OtherNames", "packed-tp1::native")) == {"packed-tp1::native"}
    text: str = run_suite.text  # type: ignore[attr-defined]
    [line] = [line for line in text.splitlines() if line.startswith("missing: other names?")]
    told = r"missing: other names\? (\d+) tensors expected, decoder\..*; unknown: \1 ten.*"
    assert re.fullmatch(told, line)
    assert failed(run_suite("OtherNamesTold", "packed-tp1::native")) == set()


def test_a_thread_that_hangs_is_named(run_suite: RunSuite) -> None:
    records = run_suite("OneRankHangs", "packed-ep2::stream", time_limit=5.0)
    crash = records["packed-ep2::stream"]["crash"]
    assert (crash["kind"], crash["rank"], crash["stage"]) == ("timeout", 1, "load")


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_pytest_class(
    pytester: pytest.Pytester, workers: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "rank_functions"), prepend=":")
    pytester.makepyfile(
        test_it="""
        from in_memory_mistakes import ReversesRows
        from mtp_regression import BridgeConformance

        class TestIt(BridgeConformance):
            bridge = ReversesRows
            only = ["packed-tp1::stream", "packed-tp1::saved"]

        def test_one(roundtrip, qwen36_checkpoint):
            assert roundtrip(ReversesRows, qwen36_checkpoint, "ep2", stages=["stream"]).passed
        """
    )
    done = pytester.runpytest_subprocess(*workers)
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(
        [
            "*test*packed-tp1::stream*",
            "*AssertionError: packed-tp1::stream: wrong: mtp.fc.weight: rows reversed*",
            "wrong: mtp.fc.weight: rows reversed*",
            "  in packed in tp1: stream",
            "*<round trip: stream wrong; wrong: mtp.fc.weight: rows reversed*>.passed*",
            "  in qwen3.6-35b-a3b in ep2: stream",
            "TestIt: not collected: forward: no logits",
        ]
    )


def test_pytest_without_a_test_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_own="def test_own(): raise AssertionError")
    done = pytester.runpytest_subprocess("--mtp-bridge", "in-memory", "-k", "packed-tp1 and saved")
    done.assert_outcomes(passed=1)
    done = pytester.runpytest_subprocess("--mtp-bridge", "in-memori")
    done.stdout.fnmatch_lines(["*an adapter is named package.module:Class, or is one of *in-memory*"])
    done.stdout.no_fnmatch_line("*Traceback*")
    assert done.ret == pytest.ExitCode.INTERRUPTED


def test_the_report_has_the_ids(run_suite: RunSuite, tmp_path: Path) -> None:
    run_suite("in-memory", "packed-tp1::native")
    [record] = json.loads((tmp_path / "report.json").read_text())["records"]
    assert record["check"] == "packed-tp1::native"


def on_one_rank(tmp_path: Path, only: str) -> list[str]:
    """The layouts that are run, of what a bridge declares of `pp2`, where one rank was started before."""
    request = Conformance(adapter=YIELDS_TWICE, report_path=tmp_path / "report.json", only=[only])
    with request.plan(examine(YIELDS_TWICE), World(0, 1, 0, Device.CPU, "env://")) as plan:
        return [str(case.parallel) for case, _ in plan.cases]


def test_ranks_that_are_there_run_the_layouts_of_their_number(tmp_path: Path) -> None:
    assert on_one_rank(tmp_path, "packed-tp*::stream") == ["tp1"]


def test_ranks_that_are_there_may_be_too_few(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="none of the checks is for 1 ranks"):
        on_one_rank(tmp_path, "packed-ep2::stream")


def test_a_folder_that_cannot_be_read_is_the_verdict_of_what_was_saved(run_suite: RunSuite) -> None:
    record = run_suite(f"{MUTANTS}:shard-lost", "packed-tp1::saved")["packed-tp1::saved"]
    assert (record["verdict"], record["crash"]) == ("wrong", None)
    [found] = record["tensors"]
    assert "No such file or directory, and the index puts" in found["detail"]


def test_half_a_pair_of_packed_experts_leaves_the_other_half_sound(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(fault="half-packed")
    config = json.loads((folder / "config.json").read_text())
    recipes = native_parameters(read_folder(folder), config, Parallel(), Coordinates())
    experts = {name: recipe for name, recipe in recipes.items() if name.startswith("0/mtp.layers.0.mlp.exp")}
    for name, recipe in experts.items():
        if "linear_fc1" in name:
            assert recipe().shape
        else:
            with pytest.raises(AbsentError, match=r"has no mtp.layers.0.mlp.experts.down_proj$"):
                recipe()

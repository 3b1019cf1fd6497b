"""The soak: what is drawn, what a failure should come to, and that a wrong verdict is found."""

from dataclasses import replace

import pytest

from mtp_regression.maintenance.soak import run
from mtp_regression.maintenance.soak.failure import KINDS, USES, Failure
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.stages.case import Stage

DRAWN = run.Drawn(
    "qwen3.6-35b-a3b",
    Parallel(tp=2),
    (Stage.NATIVE, Stage.STREAM),
    Failure("stream", "raise", 1, 5, patched=True),
)
RAISED = (Stage.STREAM, 1, "raised", "DrawnError", "Patchedstream_raise_1_5")
ENDED = ("ended", 0, 0)


def test_the_same_is_drawn_from_the_same_seed() -> None:
    drawn = [run.Drawn.of(1, number) for number in range(300)]
    assert drawn == [run.Drawn.of(1, number) for number in range(300)]
    assert drawn != [run.Drawn.of(2, number) for number in range(300)]
    assert {one.failure.kind for one in drawn} == set(KINDS)
    assert {one.failure.place for one in drawn} == set(USES)
    assert {one.parallel for one in drawn} == set(run.LAYOUTS)
    for one in drawn:
        assert Failure.parse(str(one.failure)) == one.failure
        assert any(one.failure.crash(stage) for stage in one.stages), "it is in a stage that is taken"


def test_a_name_of_no_failure_is_none() -> None:
    assert Failure.parse("stream_raise_1") is None


@pytest.mark.parametrize(
    ("came", "wrong"),
    [
        ({Stage.NATIVE: ENDED, Stage.STREAM: RAISED}, []),
        ({Stage.NATIVE: ENDED, Stage.STREAM: ENDED}, [Stage.STREAM]),
        ({Stage.NATIVE: RAISED, Stage.STREAM: RAISED}, [Stage.NATIVE]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.STREAM, 0, "raised")}, [Stage.STREAM]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.STREAM, 1, "died")}, [Stage.STREAM]),
        ({Stage.NATIVE: ENDED, Stage.STREAM: (Stage.LOAD, 1, "raised")}, [Stage.STREAM]),
    ],
)
def test_what_should_not_be_is_named(came: run.Came, wrong: list[Stage]) -> None:
    assert [problem.partition(":")[0] for problem in DRAWN.wrong(came)] == wrong


def test_a_failure_of_the_load_is_one_of_every_stage() -> None:
    failure = replace(DRAWN.failure, place="load", kind="exit")
    assert failure.crash(Stage.FILES) == (Stage.LOAD, 1, "died")


@pytest.mark.megatron
def test_drawn_failure_is_run_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run.Drawn, "of", lambda _seed, _number: DRAWN)
    assert run.main(2, 7) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0: qwen3.6-35b-a3b, tp2, native stream: Patchedstream_raise_1_5: the same twice",
        "seed 7: 1 failures, each twice: 0 problems",
    ]


@pytest.mark.parametrize("second", [ENDED, (*RAISED[:4], "something else")])
def test_another_verdict_the_second_time_is_a_problem(
    second: tuple[object, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = iter([{Stage.NATIVE: ENDED, Stage.STREAM: RAISED}, {Stage.NATIVE: ENDED, Stage.STREAM: second}])
    monkeypatch.setattr(run.Drawn, "of", lambda _seed, _number: DRAWN)
    monkeypatch.setattr(run, "run_case", lambda *_: None)
    monkeypatch.setattr(run, "came_of", lambda _: next(results))
    assert run.main(2, 7) == 1
    assert "once " in capsys.readouterr().out

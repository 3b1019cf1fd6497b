"""The known-bad run is red when the release fails in another way than it should, or passes."""

from typing import Any

import pytest

from mtp_regression.maintenance.known_bad import problems

Record = dict[str, Any]


def record(checkpoint: str, stage: str, verdict: str, **more: Any) -> Record:
    fields: Record = {"checkpoint": checkpoint, "parallel": "tp1", "stage": stage, "verdict": verdict}
    return fields | {"passed": verdict == "exact", "tensors": [], "warnings": []} | more


def report() -> dict[str, list[Record]]:
    warning = (
        "WARNING: Can't find the following HF parameters in hf_keys: ['mtp.layers.0.mlp.experts.0.gate..."
    )
    poisoned = [{"tensor": "mtp.layers.0.mlp.experts.linear_fc1.weight0", "verdict": "poisoned"}]
    return {
        "records": [
            record("qwen3.5-35b-a3b", "native", "exact"),
            record("qwen3.6-35b-a3b", "native", "poisoned", tensors=poisoned, warnings=[warning]),
            record("qwen3.6-35b-a3b", "stream", "crash-export"),
        ]
    }


def test_expected_failure_is_no_problem() -> None:
    assert list(problems(report())) == []


@pytest.mark.parametrize(
    ("number", "change", "problem"),
    [
        (0, {"passed": False, "verdict": "wrong"}, "wrong, and should pass"),
        (1, {"verdict": "wrong"}, "MTP experts alone should be poisoned"),
        (1, {"tensors": [{"tensor": "decoder.layers.0.mlp.experts.linear_fc1.weight0"}]}, "alone"),
        (1, {"warnings": []}, "no warning of the missing"),
        (2, {"passed": True}, "passed, with experts that were never loaded"),
    ],
)
def test_other_outcome_is_a_problem(number: int, change: Record, problem: str) -> None:
    changed = report()
    changed["records"][number] |= change
    assert [problem in line for line in problems(changed)] == [True]


def test_layout_that_was_not_run_is_a_problem() -> None:
    changed = report()
    del changed["records"][0]
    assert list(problems(changed)) == ["no checkpoint with per-expert MTP experts was run"]

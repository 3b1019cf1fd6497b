"""Every way of corrupting the bridge turns the main job red, with the verdict that it deserves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]

Q35, Q36 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"
REFUSED = "crash-export"  # save_hf_pretrained itself refuses keys that the source has not, or lacks


@pytest.mark.parametrize(
    ("saboteur", "checkpoint", "native", "stream", "saved"),
    [
        ("DropsOneExpert", Q35, "exact", "missing", REFUSED),
        ("SwapsTwoExperts", Q35, "exact", "wrong", "wrong"),
        ("SwapsTwoExperts", Q36, "exact", "wrong", "wrong"),
        ("SwapsGateAndUp", Q35, "exact", "wrong", "wrong"),
        ("SwapsGateAndUp", Q36, "exact", "wrong", "wrong"),
        ("SwapsGateAndUpTwice", Q35, "wrong", "exact", "exact"),
        ("SwapsGateAndUpTwice", Q36, "wrong", "exact", "exact"),
        ("ZeroesOneTensor", Q36, "exact", "wrong", "wrong"),
        ("FlipsOneBit", Q36, "exact", "wrong", "wrong"),
        ("ChangesOneDtype", Q36, "exact", "dtype", "dtype"),
        ("AddsOneKey", Q36, "exact", "unexpected", REFUSED),
        ("ExportsOneKeyTwice", Q36, "exact", "unexpected", "exact"),
        ("WritesPackedPerExpert", Q36, "exact", "flip", REFUSED),
        ("LeavesNanIn", Q35, "poisoned", "poisoned", "poisoned"),
        ("LeavesNanIn", Q36, "poisoned", "poisoned", "poisoned"),
    ],
)
def test_mistake_gets_its_verdict(
    saboteur: str,
    checkpoint: str,
    native: str,
    stream: str,
    saved: str,
    checkpoints: dict[str, Path],
    main_job: Job,
) -> None:
    options = ("--adapter", f"saboteurs:{saboteur}", "--parallel", "tp1")
    exit_code, report = main_job(checkpoints[checkpoint], *options, *EXPORTS)
    verdicts = {record["stage"]: record["verdict"] for record in report["records"]}
    assert verdicts == {"native": native, "stream": stream, "saved": saved}
    assert exit_code == 1
    assert report["passed"] is False


@pytest.mark.parametrize(("saboteur", "verdict"), [("RaisesOnLoad", "crash-import"), ("Refuses", "refused")])
def test_refusal_is_what_the_adapter_declares(
    saboteur: str, verdict: str, checkpoints: dict[str, Path], main_job: Job
) -> None:
    options = ("--adapter", f"saboteurs:{saboteur}", "--parallel", "ep2")
    exit_code, report = main_job(checkpoints[Q36], *options, *EXPORTS)
    assert exit_code == 1
    assert [record["verdict"] for record in report["records"]] == [verdict] * 3
    for crash in (record["crash"] for record in report["records"]):
        assert (crash["stage"], crash["rank"], crash["kind"]) == ("load", 1, "raised")
        assert crash["exception"] == "saboteurs.TooOldError"
        assert crash["message"] == "written by an old release\nKeyError: not the error"
        assert "in load" in crash["text"]

"""A bridge that leaves MTP out is to carry everything else, in every stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.stages.case import ONE_LAYOUT

Job = Callable[..., tuple[int, dict[str, Any]]]

pytestmark = pytest.mark.megatron

Q35 = "qwen3.5-35b-a3b"


def test_patched_bridge_without_mtp_is_exact_in_all_stages(
    checkpoints: dict[str, Path], main_job: Job
) -> None:
    """The second checkpoint that it loads has MTP too, and the third MTP in the other layout."""
    adapter = "mtp_regression.adapters.variants:PatchedWithoutMtp"
    exit_code, report = main_job(checkpoints[Q35], "--parallel", "tp1", "--adapter", adapter)
    assert {record["stage"]: record["verdict"] for record in report["records"]} == dict.fromkeys(
        ONE_LAYOUT, "exact"
    )
    assert exit_code == 0


def test_mtp_that_is_there_all_the_same_is_named(checkpoints: dict[str, Path], main_job: Job) -> None:
    stages = ("--stage", "native", "--stage", "stream", "--stage", "saved")
    options = ("--parallel", "tp1", "--adapter", "stage_saboteurs:HasMtpAllTheSame", *stages)
    exit_code, report = main_job(checkpoints[Q35], *options)
    assert exit_code == 1
    for record in report["records"]:
        assert record["verdict"] == "unexpected"
        found = {found["tensor"] for found in record["tensors"] if found["verdict"] == "unexpected"}
        assert len(found) > 20
        assert all(name.startswith("mtp.") for name in found)

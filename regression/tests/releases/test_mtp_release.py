"""What a release does with both layouts: 0.4.x fails packed MTP experts for a reason that is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures.plugin import MakeCheckpoint

from ..conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]
Q35, Q36 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"
PARALLELS = ("tp1", "ep2", "pp2")


@pytest.fixture(scope="module")
def known_bad(release: str) -> bool:
    """Whether the release maps MTP experts one by one, whatever the checkpoint holds."""
    return release.startswith("0.4.")


def run(main_job: Job, checkpoint: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    parallels = [word for parallel in PARALLELS for word in ("--parallel", parallel)]
    exit_code, report = main_job(checkpoint, *parallels, *options, *EXPORTS)
    return exit_code, report["records"]


def verdicts(records: list[dict[str, Any]]) -> set[str]:
    return {record["verdict"] for record in records}


def test_per_expert_mtp_passes(main_job: Job, checkpoints: dict[str, Path]) -> None:
    exit_code, records = run(main_job, checkpoints[Q35])
    assert (exit_code, verdicts(records)) == (0, {"exact"})


def test_per_expert_mtp_passes_patched(main_job: Job, checkpoints: dict[str, Path]) -> None:
    exit_code, records = run(main_job, checkpoints[Q35], "--patched")
    assert (exit_code, verdicts(records)) == (0, {"exact"})
    assert all(record["bridge"].endswith("+patch") for record in records)


def test_packed_mtp_passes_patched(main_job: Job, checkpoints: dict[str, Path]) -> None:
    exit_code, records = run(main_job, checkpoints[Q36], "--patched")
    assert (exit_code, verdicts(records)) == (0, {"exact"})


def test_packed_mtp_fails_where_it_is_known_to(
    known_bad: bool, main_job: Job, checkpoints: dict[str, Path]
) -> None:
    exit_code, records = run(main_job, checkpoints[Q36])
    if not known_bad:
        assert (exit_code, verdicts(records)) == (0, {"exact"})
        return
    assert exit_code == 1
    for record in records:
        if record["stage"] != "native":
            assert record["verdict"] == "crash-export", "upstream cannot give back what it has not loaded"
            continue
        assert record["verdict"] == "poisoned"
        poisoned = [found["tensor"] for found in record["tensors"]]
        assert len(poisoned) == 8 * 2, "every MTP expert's two parameters, on one rank or another"
        assert all("mtp.layers.0.mlp.experts.linear_fc" in tensor for tensor in poisoned)
        assert {found["verdict"] for found in record["tensors"]} == {"poisoned"}
        warned = [line for line in record["warnings"] if "Can't find the following HF parameters" in line]
        for expert in range(8):
            assert any(f"'mtp.layers.0.mlp.experts.{expert}.gate_proj.weight'" in line for line in warned)


def test_contradiction_is_refused_patched(main_job: Job, make_checkpoint: MakeCheckpoint) -> None:
    """Both layouts at once: nothing is loaded, and the error names the layer and both."""
    exit_code, records = run(main_job, make_checkpoint(Q36, fault="both-layouts"), "--patched")
    assert (exit_code, verdicts(records)) == (1, {"refused"})
    for crash in (record["crash"] for record in records):
        assert (crash["stage"], crash["kind"]) == ("load", "raised")
        assert crash["exception"] == "mtp_checkpoint.errors.LayoutError"
        assert "MTP layer 0: both layouts: 2 keys" in crash["message"]

"""Qwen3-Next through Megatron-Bridge's own bridge: MTP is left out in silence, unless it is asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from mtp_fixtures.plugin import MakeCheckpoint

from .conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]

PRESET, LAYOUT = "qwen3-next-80b-a3b", "tp2 ep2"


def test_mtp_is_left_out_and_nothing_else(main_job: Job, make_checkpoint: MakeCheckpoint) -> None:
    """Its configuration has no field for MTP layers, so none is built (docs/findings.md)."""
    exit_code, report = main_job(make_checkpoint(PRESET), "--parallel", LAYOUT, *EXPORTS)
    assert exit_code == 1
    assert [record["verdict"] for record in report["records"]] == ["missing"] * 3
    lost = [found for record in report["records"] for found in record["tensors"]]
    assert {found["verdict"] for found in lost} == {"missing"}
    assert all("mtp." in found["tensor"] for found in lost)


def test_with_mtp_every_byte_is_carried(main_job: Job, make_checkpoint: MakeCheckpoint) -> None:
    """Fused projections and per-expert layers on four ranks, in the model and in both exports."""
    words = ("--parallel", LAYOUT, "--adapter", "declared_mtp:OneMtpLayer", *EXPORTS)
    exit_code, report = main_job(make_checkpoint(PRESET), *words)
    assert [record["verdict"] for record in report["records"]] == ["exact"] * 3
    assert exit_code == 0

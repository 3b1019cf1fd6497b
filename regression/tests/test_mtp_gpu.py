"""What only a GPU can show; `pytest -m gpu` takes these alone."""

from collections.abc import Callable
from typing import Any

import pytest

from mtp_regression.reporting.differences import compare_reports

pytestmark = [pytest.mark.megatron, pytest.mark.gpu]

Job = Callable[..., tuple[int, dict[str, Any]]]


@pytest.mark.parametrize(
    ("device", "layout"), [("cuda", "tp1"), ("cuda-shared", "tp2"), ("cuda-shared", "ep2")]
)
def test_verdicts_on_a_gpu_are_the_cpus(device: str, layout: str, main_job: Job) -> None:
    words = ("--parallel", layout, "--time-limit", 300)
    exit_code, on_gpu = main_job("--device", device, *words)
    assert exit_code == 0
    assert all(case["peak_gpu_bytes"] for case in on_gpu["records"])
    assert list(compare_reports(on_gpu, main_job(*words)[1])) == []

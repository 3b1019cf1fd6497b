"""Ranks that are run side by side by threads: each run ends with its own results or error."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rank_jobs

from mtp_regression.ranks.run import RankError, run, warm


def test_threads_run_ranks_side_by_side(tmp_path: Path) -> None:
    warm()

    def number(value: int) -> list[tuple[int, int]]:
        folder = tmp_path / str(value)
        return run(rank_jobs.given, value, world_size=1 + value % 2, time_limit=60, log_folder=folder)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(number, range(16)))
    assert results == [[(value, rank) for rank in range(1 + value % 2)] for value in range(16)]


def test_a_run_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    warm()
    with ThreadPoolExecutor(4) as threads:
        failing = [
            threads.submit(
                run, rank_jobs.ends, "raise", world_size=2, time_limit=60, log_folder=tmp_path / f"f{number}"
            )
            for number in range(4)
        ]
        whole = [
            threads.submit(
                run, rank_jobs.total, world_size=2, time_limit=60, log_folder=tmp_path / f"w{number}"
            )
            for number in range(8)
        ]
        for future in failing:
            with pytest.raises(RankError, match="the expert is gone"):
                future.result()
        assert [future.result() for future in whole] == [[3.0, 3.0]] * 8

"""Deferred imports in the main job: nothing is touched, and nothing is otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

from reports import but_seconds

from mtp_regression.deferred.imports import SWITCH, listed_packages


def test_a_run_touches_nothing_and_reports_what_it_does_without(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    words = ("roundtrip", str(checkpoints["qwen3.6-35b-a3b"]), "--parallel", "tp1")
    reports = {}
    for switch in "01":
        folder = tmp_path / switch
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "mtp_regression", *words],
            cwd=folder,
            env=os.environ | {SWITCH: switch},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        reports[switch] = json.loads((folder / "reports" / "roundtrip.json").read_text())
        logs = list((folder / "reports" / "logs").rglob("*.log"))
        assert logs
        assert [line for log in logs for line in log.read_text().splitlines() if "was deferred" in line] == []
    assert [report.pop("deferred") for report in reports.values()] == [[], sorted(listed_packages())]
    assert but_seconds(reports["0"]) == but_seconds(reports["1"])

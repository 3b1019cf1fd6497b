"""The round trip on ranks that torchrun has started."""

import json
import subprocess
import sys
from pathlib import Path

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def torchrun(checkpoint: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the round trip on two ranks, in a folder of its own; adapters of the tests can be named."""
    words = ("-m", "mtp_regression", "roundtrip", str(checkpoint), "--parallel", "ep2", *options)
    return subprocess.run([*TORCHRUN, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_the_import_is_counted_and_all_stages_run(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    done = torchrun(checkpoints["qwen3.6-35b-a3b"], tmp_path, "--keep")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "reports" / "roundtrip.json").read_text())
    assert report["import_seconds"] > report["records"][0]["load_seconds"] > 0
    assert [record["stage"] for record in report["records"]] == [
        *("native", "stream", "saved", "files", "forward", "retrained", "reloaded")
    ]
    assert len(list((tmp_path / "reports" / "kept").rglob("saved/config.json"))) == 1


HANGING = """
import threading
from mtp_regression.in_memory.bridge import InMemoryBridge

class HangsWhenLeft(InMemoryBridge):
    def stream(self):
        try:
            yield from super().stream()
        finally:
            threading.Event().wait()
"""


def test_the_time_limit_holds(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    options = ("--adapter", "hanging:HangsWhenLeft", "--stage", "stream", "--time-limit", "8")
    done = torchrun(checkpoints["qwen3.6-35b-a3b"], tmp_path, *options)
    assert done.returncode == 1
    assert "Timeout (0:00:08)!" in done.stderr
    assert "_leave_half_way" in done.stderr
    assert not (tmp_path / "reports" / "roundtrip.json").exists()


def test_a_bridge_whose_ranks_are_threads_runs_on_ranks_that_are_processes(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    done = torchrun(checkpoints["qwen3.6-35b-a3b"], tmp_path, "--adapter", "in-memory")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells exact" in done.stdout

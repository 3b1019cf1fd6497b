"""The round trip on ranks that torchrun has started."""

import json
import subprocess
import sys
from pathlib import Path

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
FUNCTIONS = Path(__file__).with_name("rank_functions")


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


def test_the_time_limit_holds(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        f"import sys\nsys.path.insert(0, {str(FUNCTIONS)!r})\nfrom stage_saboteurs import HangsWhenLeft\n"
    )
    options = ("--adapter", "hanging:HangsWhenLeft", "--stage", "stream", "--time-limit", "40")
    done = torchrun(checkpoints["qwen3.6-35b-a3b"], tmp_path, *options)
    assert done.returncode == 1
    assert "Timeout (0:00:40)!" in done.stderr
    assert "_leave_half_way" in done.stderr, "whichever rank's limit was reached first, it waits there"
    assert not (tmp_path / "reports" / "roundtrip.json").exists()

"""`mtpkit inspect` as a user types it: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def inspect(*arguments: object, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtp_regression", "inspect", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done


def test_consistent(make_checkpoint: Any) -> None:
    folder = make_checkpoint("qwen3.5-35b-a3b")
    assert inspect(folder).stdout.splitlines() == [
        str(folder),
        "  decoder  packed in 4 layers, 8 experts",
        "  MTP      1 layer, 1 declared, per-expert in 1 layer",
        "  dtypes   140 BF16, 6 F32",
        "  F32      linear_attn.A_log (3), linear_attn.norm.weight (3)",
        "  consistent",
    ]
    document = json.loads(inspect(folder, "--json").stdout)
    assert document["mtp"] == {"0": "per-expert"}
    assert document["decoder_layout"] == "packed"
    assert document["num_experts"] == 8
    assert document["problems"] == []


def test_dense(make_checkpoint: Any) -> None:
    lines = inspect(make_checkpoint("qwen3.6-27b")).stdout.splitlines()
    assert lines[1] == "  decoder  no routed experts"
    assert lines[2] == "  MTP      1 layer, 1 declared, no routed experts"


def test_inconsistent(make_checkpoint: Any) -> None:
    folder = make_checkpoint("qwen3.6-35b-a3b", fault="packed-on-layer-1-only")
    done = inspect(folder, exit_code=1)
    assert "  MTP      2 layers, 2 declared, per-expert in 1 layer, packed in 1 layer" in done.stdout
    assert "  problem  MTP: layers of both layouts: per-expert in layer 0, packed in layer 1" in done.stdout
    assert len(json.loads(inspect(folder, "--json", exit_code=1).stdout)["problems"]) == 1


def test_unreadable(make_checkpoint: Any, tmp_path: Path) -> None:
    folder = make_checkpoint("qwen3.6-35b-a3b", fault="path-parent")
    done = inspect(folder, exit_code=2)
    assert "is no path inside the folder" in done.stderr
    assert not done.stdout
    inspect(tmp_path, exit_code=2)
    inspect(tmp_path / "absent", exit_code=2)

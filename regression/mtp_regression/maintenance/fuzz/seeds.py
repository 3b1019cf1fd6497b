"""The inputs that fuzzing starts from: headers, indexes and configs of tiny checkpoints, sound and broken."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mtp_bridge_patch.fixes.config_only.record import ExportRecord
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.companions.companions import CONFIG_NAME
from mtp_fixtures.faults.table import FAULTS, FOLDERS
from mtp_fixtures.faults.write import write_faulty
from mtp_fixtures.shards.file_style import INDEX_NAME
from mtp_regression.maintenance.fuzz.readers import SHARD
from mtp_regression.maintenance.fuzz.targets import OUTSIDE, PIPE

PRESETS = ("qwen3.5-0.8b", "qwen3.6-35b-a3b-fp8")  # one file with its index; FP8 experts, with a long config
_FAULTY = "qwen3.6-35b-a3b"


def write_seeds(folder: Path) -> None:
    """Write the seeds of every reader into a folder each, `folder`/READER."""
    seeds: dict[str, list[bytes]] = {
        name: [] for name in ("header", "index", "checkpoint", "config", "record")
    }
    with tempfile.TemporaryDirectory(prefix="mtp-fuzz-") as scratch:
        for checkpoint in _checkpoints(Path(scratch)):
            shards = [_shard(path) for path in sorted(checkpoint.glob("*.safetensors")) if path.is_file()]
            seeds["header"] += shards
            seeds["config"].append((checkpoint / CONFIG_NAME).read_bytes())
            if (checkpoint / INDEX_NAME).exists():
                index = (checkpoint / INDEX_NAME).read_bytes()
                seeds["index"].append(index)
                seeds["checkpoint"] += [struct.pack("<I", len(index)) + index + shard for shard in shards[:1]]
    small = json.dumps(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"b": "c"}}
    )
    shard = struct.pack("<Q", len(small)) + small.encode() + struct.pack("<I", 8)
    seeds["header"].append(shard)
    for file in (SHARD, OUTSIDE, PIPE, f"../{OUTSIDE}"):
        index = json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": file}}).encode()
        seeds["index"].append(index)
        seeds["checkpoint"].append(struct.pack("<I", len(index)) + index + shard)
    seeds["checkpoint"].append(struct.pack("<I", 0) + shard)
    seeds["config"].append(b'{"text_config": {"num_experts": 8, "mtp_num_hidden_layers": 1}}')
    for layout in ExpertLayout:
        record = ExportRecord(layout, layout, frozenset({"a", "b"}))
        seeds["record"].append(record.to_json().encode())
    for name, contents in seeds.items():
        (folder / name).mkdir(parents=True)
        for number, content in enumerate(dict.fromkeys(contents)):
            (folder / name / f"{number:03}").write_bytes(content)


def _checkpoints(scratch: Path) -> Iterator[Path]:
    for name in PRESETS:
        CheckpointSpec(preset(name)).write(scratch / name)
        yield scratch / name
    for name in (*FAULTS, *FOLDERS):
        yield write_faulty(CheckpointSpec(preset(_FAULTY)), name, scratch / f"fault-{name}", manifest=False)


def _shard(path: Path) -> bytes:
    """Return a file up to its data, and the data's size, as `targets` takes it."""
    with path.open("rb") as file:
        size = path.stat().st_size
        prefix = file.read(8)
        start = prefix + file.read(min(int.from_bytes(prefix, "little"), 2**16))
    return start + struct.pack("<I", size - len(start))

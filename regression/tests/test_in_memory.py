"""The in-memory bridge carries every model through every parallel layout, judged by the suite's stages."""

import tomllib
import weakref
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mtp_fixtures import FOLDERS, PRESETS, CheckpointSpec, preset, write_faulty
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.ranks.parallel import DENSE_GRID, GRID, Parallel
from mtp_regression.scenarios.table import PIPELINES, RESHARDINGS
from mtp_regression.stages.case import Stage

from .in_memory_stages import CONVERTED, found

Q35, Q36, DENSE, TIED = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b"
FP8, NEXT = "qwen3.6-35b-a3b-fp8", "qwen3-next-80b-a3b"


@pytest.mark.parametrize("name", PRESETS)
def test_every_model(name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    layout = "tp2 ep2" if preset(name).is_moe else "tp2"
    assert not found(make_checkpoint(name), layout, tmp_path, stages=CONVERTED)


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        *((Q36, parallel) for parallel in (*GRID, *PIPELINES)),
        *((TIED, parallel) for parallel in (*DENSE_GRID, *PIPELINES)),
    ],
    ids=str,
)
def test_every_layout(name: str, parallel: object, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    assert not found(make_checkpoint(name), str(parallel), tmp_path, stages=(Stage.NATIVE, Stage.STREAM))


@pytest.mark.parametrize(
    ("name", "options", "layout"),
    [
        (Q36, {"decoder_experts": "per-expert"}, "ep2"),
        (Q35, {"decoder_experts": "per-expert"}, "etp2"),
        (Q36, {"mtp_layers": 0}, "pp2"),
        (Q36, {"mtp_layers": 2}, "tp2"),
        (Q36, {"text_only": True}, "tp2 ep2"),
        (TIED, {"text_only": True, "mtp_layers": 2}, "pp2"),
        (TIED, {"layer_types": "LFFL"}, "pp2 vpp2"),
        (Q36, {"layer_types": "LLL"}, "tp1"),
        (Q36, {"scale": "wide"}, "tp4"),
        (Q36, {"scale": "square"}, "tp2 ep2"),
        (Q36, {"value_range": "extreme"}, "tp2"),
        (FP8, {"value_range": "extreme"}, "tp2"),
        (FP8, {"decoder_experts": "fp8-packed", "mtp_experts": "fp8-packed"}, "ep2"),
        (FP8, {"mtp_experts": "packed"}, "etp2"),
        (DENSE, {"variant": "resaved-float32-lost"}, "tp2"),
    ],
    ids=str,
)
def test_every_kind_of_checkpoint(
    name: str, options: dict[str, Any], layout: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    assert not found(make_checkpoint(name, **options), layout, tmp_path, stages=CONVERTED)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        (Q35, "tp2 ep2"),
        (Q36, "pp2 Et|tttmL"),
        (DENSE, "tp2"),
        (TIED, "pp2 vpp2"),
        (FP8, "ep2"),
        (NEXT, "tp2"),
    ],
)
def test_every_stage(name: str, layout: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    assert not found(make_checkpoint(name), layout, tmp_path)


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        *((Q36, layouts) for layouts in RESHARDINGS),
        (TIED, "tp1 to pp2"),
        (TIED, "pp2 to tp1"),
        (FP8, "tp2 to ep2"),
    ],
    ids=str,
)
def test_every_resharding(
    name: str, layouts: object, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    assert not found(make_checkpoint(name), str(layouts), tmp_path)


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_folder_that_loads(kind: str, tmp_path: Path) -> None:
    folder = write_faulty(CheckpointSpec(preset(Q36)), kind, tmp_path / "checkpoint")
    stages = (*CONVERTED, Stage.FILES)
    assert not found(folder, "tp2", tmp_path / "case", stages=stages)


class OneAtATime(InMemoryBridge):
    """Builds its model only when no other is in memory: two of a published size would not fit."""

    others: ClassVar[weakref.WeakSet[InMemoryBridge]] = weakref.WeakSet()

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        assert not self.others
        self.others.add(self)
        return super().build(checkpoint, parallel)


def test_a_model_is_given_up_before_the_next_is_built(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    stages = (Stage.STREAM, Stage.RETRAINED, Stage.RELOADED)  # the last begins with another model
    adapter = f"{__name__}:{OneAtATime.__name__}"
    assert not found(make_checkpoint(Q36), "tp1", tmp_path, adapter=adapter, stages=stages)


def test_its_release_is_the_kits() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert InMemoryBridge.release == tomllib.loads(project.read_text())["project"]["version"]

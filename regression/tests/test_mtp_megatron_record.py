"""A Megatron checkpoint keeps what an export without the source checkpoint has to know of it.

Upstream's own code saves and loads, on the CPU with the stand-in for TransformerEngine. Load and export run
in new processes, which see no more of the source checkpoint than its config.json.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import megatron_record
import pytest

from mtp_bridge_patch.fixes.config_only.record import FILE_NAME
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks import run as ranks
from mtp_regression.ranks.parallel import Parallel

pytestmark = [pytest.mark.megatron, pytest.mark.usefixtures("training_server")]

ITERATION = "iter_0000000"
FLOAT32 = ("linear_attn.A_log", "linear_attn.norm.weight")
"""What the published Qwen3.5-35B-A3B has in F32, in each layer of linear attention."""


@dataclass(frozen=True)
class Stored:
    """A checkpoint, and the Megatron checkpoint that was made of it.

    Attributes:
        decoder: Layout of the decoder's routed experts.
        mtp: Layout of the MTP layers' routed experts.
        saved_as: Parallel layout in which it is saved.
        options: Of the checkpoint.
        low_memory: Whether it is saved as upstream's `import_ckpt` does.
    """

    preset: str
    decoder: str
    mtp: str
    saved_as: str = "tp1"
    options: dict[str, Any] = field(default_factory=dict)
    low_memory: bool = False


CASES = {
    "packed": Stored("qwen3.6-35b-a3b", "packed", "packed", saved_as="ep2"),
    "per-expert": Stored("qwen3.5-35b-a3b", "packed", "per-expert", low_memory=True),
    # Neither is what an export has that knows nothing.
    "decoder per expert": Stored(
        "qwen3.6-35b-a3b", "per-expert", "packed", options={"decoder_experts": "per-expert"}
    ),
}


class Checkpoints:
    """Makes checkpoints and, once for each case, Megatron checkpoints of them."""

    def __init__(self, make_checkpoint: MakeCheckpoint, folder: Path) -> None:
        self._make = make_checkpoint
        self._folder = folder

    def source(self, case: str) -> Path:
        return self._make(CASES[case].preset, **CASES[case].options)

    def megatron(self, case: str) -> Path:
        folder = self._folder / case
        if not folder.exists():
            stored = CASES[case]
            arguments = (str(self.source(case)), stored.saved_as, str(folder), stored.low_memory)
            run("store", *arguments, parallel=stored.saved_as, logs=self._folder / "logs" / case)
        return folder


@pytest.fixture(scope="module")
def made(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(make_checkpoint, tmp_path_factory.mktemp("megatron"))


def run(name: str, *arguments: object, parallel: str, logs: Path) -> list[Any]:
    """Run a function of megatron_record on new ranks, forks of a process that is not patched."""
    return ranks.run(
        getattr(megatron_record, name),
        *arguments,
        world_size=Parallel.parse(parallel).ranks,
        time_limit=120,
        log_folder=logs,
        preload=["mtp_regression.adapters.megatron_bridge"],
    )


def config_alone(source: Path, folder: Path) -> Path:
    """Copy a checkpoint's config.json, and nothing else, into a new folder."""
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    return folder


def export(source: Path, megatron: Path, folder: Path, parallel: str) -> tuple[list[Finding], list[str]]:
    """Export a Megatron checkpoint with the source's config.json alone.

    Args:
        source: Folder of the source checkpoint.
        megatron: Folder of the Megatron checkpoint.
        folder: Where `saved` and `again`, the Megatron checkpoint saved again, are made.
        parallel: The parallel layout of load and export.

    Returns:
        What differs from the source, and what every rank was warned of.
    """
    config = config_alone(source, folder / "config")
    arguments = (config, megatron, parallel, folder / "saved", folder / "again")
    results = run("export", *map(str, arguments), parallel=parallel, logs=folder / "logs")
    assert all(warnings == results[0] for warnings in results)
    return compare(read_folder(source), read_folder(folder / "saved").items()), results[0]


def record_of(case: str, source: Path) -> dict[str, Any]:
    """Return what is to be recorded, going by the published model and the checkpoint's config.json."""
    layers = json.loads((source / "config.json").read_text())["text_config"]["layer_types"]
    linear = [number for number, kind in enumerate(layers) if kind == "linear_attention"]
    names = [f"model.language_model.layers.{number}.{end}" for number in linear for end in FLOAT32]
    stored = CASES[case]
    float32 = sorted(names) if stored.preset.startswith("qwen3.5") else []
    return {"decoder": stored.decoder, "mtp": stored.mtp, "float32": float32}


@pytest.mark.parametrize(
    ("case", "parallel"), [("packed", "tp2"), ("per-expert", "tp1"), ("decoder per expert", "tp1")]
)
def test_mtp_export_of_a_megatron_checkpoint_is_exact(
    case: str, parallel: str, made: Checkpoints, tmp_path: Path
) -> None:
    source, megatron = made.source(case), made.megatron(case)
    findings, warnings = export(source, megatron, tmp_path, parallel)
    assert (findings, warnings) == ([], [])
    for folder in (megatron / ITERATION, tmp_path / "again" / ITERATION):
        assert json.loads((folder / FILE_NAME).read_text()) == record_of(case, source)
        # A reader that is not patched warns of a field that it does not know.
        assert "mtp_bridge_patch" not in (folder / "run_config.yaml").read_text()


def test_mtp_record_stays_with_a_model_that_is_trained_on(made: Checkpoints, tmp_path: Path) -> None:
    """The config that training saves is not the one that the model was loaded with."""
    case = "decoder per expert"
    source, trained = made.source(case), tmp_path / "trained"
    config = config_alone(source, tmp_path / "resume")
    run("resume", str(config), str(made.megatron(case)), str(trained), parallel="tp1", logs=tmp_path / "log")
    assert json.loads((trained / ITERATION / FILE_NAME).read_text()) == record_of(case, source)
    findings, warnings = export(source, trained, tmp_path, "tp1")
    assert (findings, warnings) == ([], [])


@pytest.mark.parametrize("case", ["packed", "per-expert"])
def test_mtp_export_without_the_record_warns_and_is_as_published_for_qwen35(
    case: str, made: Checkpoints, tmp_path: Path
) -> None:
    source, megatron = made.source(case), tmp_path / "megatron"
    shutil.copytree(made.megatron(case), megatron)
    (megatron / ITERATION / FILE_NAME).unlink()
    findings, [warning] = export(source, megatron, tmp_path, "tp1")
    assert "none was recorded: routed experts will be packed in the decoder and per-expert in MTP" in warning
    assert not (tmp_path / "again" / ITERATION / FILE_NAME).exists()
    tensors = read_folder(source)
    lost = {finding.tensor: finding.verdict for finding in findings if finding.tensor in tensors}
    if case == "packed":
        experts = [name for name in tensors if name.startswith("mtp.layers.0.mlp.experts.")]
        assert lost == dict.fromkeys(experts, Verdict.FLIP)
        assert {finding.verdict for finding in findings} == {Verdict.FLIP}
    else:
        assert lost == dict.fromkeys(record_of(case, source)["float32"], Verdict.DTYPE)
        assert len(lost) == len(findings) > 0

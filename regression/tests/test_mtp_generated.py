"""Checkpoints that are on no disk: published dimensions through a bridge, tensor by tensor."""

import io
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_fixtures.model.geometry import Geometry
from mtp_fixtures.model.mlp import Moe
from mtp_fixtures.model.scaling import with_decoder_layers
from mtp_regression.adapters import MEGATRON_BRIDGE
from mtp_regression.commands.app import app
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.generated import KEPT, GeneratedTensors
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Coordinates, Parallel
from mtp_regression.roundtrip.request import CannotRunError, Request
from mtp_regression.roundtrip.run import round_trips

Job = Callable[..., tuple[int, dict[str, Any]]]


def slice_of(name: str) -> CheckpointSpec:
    """Published widths, but few layers, experts and tokens: 0.5 GB."""
    geometry: Geometry = with_decoder_layers(preset(name).published, 4)
    text, vision = geometry.text, geometry.vision
    assert isinstance(text.mlp, Moe)
    assert vision is not None
    text = replace(text, vocab_size=1024, mlp=replace(text.mlp, num_experts=8, num_experts_per_tok=2))
    dimensions = Geometry(text=text, vision=replace(vision, depth=1))
    return CheckpointSpec(preset(name), scale=Scale.REAL, dimensions=dimensions)


Q35, Q36 = slice_of("qwen3.5-35b-a3b"), slice_of("qwen3.6-35b-a3b")


def run(tmp_path: Path, spec: CheckpointSpec, parallel: Parallel, adapter: str = MEGATRON_BRIDGE) -> Any:
    request = Request(
        generated={"slice": spec},
        parallels=[parallel],
        adapter=adapter,
        report_path=tmp_path / "report.json",
    )
    report = round_trips(request, Console(file=io.StringIO()))
    assert report is not None
    return report["records"]


@pytest.mark.megatron
@pytest.mark.parametrize(("spec", "parallel"), [(Q35, Parallel()), (Q36, Parallel(ep=2))])
def test_published_dimensions_come_back_exact(
    tmp_path: Path, spec: CheckpointSpec, parallel: Parallel
) -> None:
    records = run(tmp_path, spec, parallel)
    found = {record["stage"]: record for record in records}
    for stage in ("native", "stream", "saved", "retrained"):
        assert (found[stage]["verdict"], found[stage]["passed"]) == ("exact", True), stage
    assert found["saved"]["compared"] == len(spec.tensors)
    assert found["native"]["compared"] > len(spec.tensors)


@pytest.mark.megatron
def test_a_bridge_that_reads_the_holes_is_found_out(tmp_path: Path) -> None:
    tiny = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    records = run(tmp_path, tiny, Parallel(), "saboteurs:ReadsTheFiles")
    found = {record["stage"]: record for record in records}
    assert [found[stage]["verdict"] for stage in ("native", "stream", "saved")] == ["wrong"] * 3
    assert len(found["saved"]["tensors"]) == len(tiny.tensors)


@pytest.mark.megatron
def test_presets_of_the_command_are_generated(main_job: Job) -> None:
    exit_code, report = main_job("--preset", "qwen3.6-35b-a3b", "--layers", 8, "--parallel", "pp2 vpp2")
    assert exit_code == 0
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    layers = with_decoder_layers(spec.geometry, 8)
    expected = len(replace(spec, dimensions=layers).tensors)
    (saved,) = [record for record in report["records"] if record["stage"] == "saved"]
    assert (saved["checkpoint"], saved["compared"]) == ("qwen3.6-35b-a3b", expected)


@pytest.mark.parametrize("spec", [Q35, Q36])
def test_tensors_are_those_that_would_be_written(tmp_path: Path, spec: CheckpointSpec) -> None:
    tiny = CheckpointSpec(spec.preset)
    folder = tiny.write(tmp_path / "written")
    generated = GeneratedTensors(tiny)
    assert list(generated) == [tensor.name for tensor in tiny.tensors]
    assert compare(read_folder(folder), generated.items()) == []
    for name, tensor in generated.items():
        made = tensor.to_torch()
        assert (tuple(made.shape), made.numel() * made.element_size()) == (tensor.shape, tensor.data.size), (
            name
        )


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_a_rank_must_hold_is_made_a_parameter_at_a_time(tmp_path: Path) -> None:
    folder = Q36.write(tmp_path / "holes", sparse=True)
    config = json.loads((folder / "config.json").read_text())

    def recipes() -> Any:
        return native_parameters(GeneratedTensors(Q36), config, Parallel(), Coordinates())

    def held() -> Iterator[tuple[str, Any]]:
        for name, recipe in recipes().items():
            yield name, RawTensor.from_array(recipe())

    sizes = [tensor.byte_count for tensor in Q36.tensors]
    findings: list[Any] = []
    peak = peak_of(lambda: findings.extend(check(recipes(), held())))
    assert findings == []
    # What each side keeps, what it makes, and blocks of the comparison.
    assert peak < (2 * KEPT + 4) * max(sizes)
    assert sum(sizes) > 2 * (2 * KEPT + 4) * max(sizes)


class Counted(GeneratedTensors):
    """Counts how often a tensor's bytes are asked for."""

    def __init__(self, spec: CheckpointSpec) -> None:
        super().__init__(spec)
        self.times = Counter[str]()

    def __getitem__(self, name: str) -> RawTensor:
        tensor = super().__getitem__(name)

        def content() -> NDArray[np.uint8]:
            self.times[name] += 1
            return tensor.data

        return RawTensor(tensor.dtype, tensor.shape, content)


def test_packed_experts_are_read_once_for_all_parameters(tmp_path: Path) -> None:
    tiny = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    config = json.loads((tiny.write(tmp_path / "tiny", sparse=True) / "config.json").read_text())
    tensors = Counted(tiny)
    for recipe in native_parameters(tensors, config, Parallel(), Coordinates()).values():
        recipe()
    packed = [tensor.name for tensor in tiny.tensors if tensor.place.stacked]
    assert {tensors.times[name] for name in packed} == {1}


@pytest.mark.megatron
def test_an_adapter_that_reads_files_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="ReadsFilesAlone has no read_from, by which a checkpoint"):
        run(tmp_path, CheckpointSpec(preset("qwen3.6-35b-a3b")), Parallel(), "saboteurs:ReadsFilesAlone")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--scale", "real"], "--scale: has no effect without --preset"),
        (["--layers", "4"], "--layers: has no effect without --preset"),
        (["folder", "--preset", "qwen3.6-35b-a3b"], "CHECKPOINTS: has no effect with --preset"),
        (["--preset", "gpt2"], "--preset: 'gpt2' is none of qwen3.5"),
        (["--preset", "qwen3.6-27b", "--preset", "qwen3.6-27b"], "--preset: 'qwen3.6-27b' is given twice"),
        (["--preset", "qwen3.6-27b", "--layers", "3"], "--layers: num_hidden_layers is not a multiple"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["roundtrip", *words], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"Invalid value for {told}" in " ".join(result.stderr.split())

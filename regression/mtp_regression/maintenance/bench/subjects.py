"""What is measured as the work grows: checkpoints of any size, and what is done with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtp_checkpoint import ExpertLayout, inspect
from mtp_fixtures import CheckpointSpec, Scale, preset
from mtp_fixtures.model.mlp import Moe
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.folders import compare_folders
from mtp_regression.comparison.generated import GeneratedTensors
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.oracle.check import check
from mtp_regression.oracle.claims import NativeOrigins
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.page.write import write_page
from mtp_regression.provenance.origins import Origins
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import Coordinates, Parallel
from mtp_regression.ranks.rank import Rank
from mtp_regression.reporting.document import report_of, write_report
from mtp_regression.reporting.folding.fold import fold
from mtp_regression.reporting.record import Record

PRESET = "qwen3.6-35b-a3b"
Work = dict[str, Callable[[], object]]
"""What is done, by its name."""


def model(experts: int, layers: int) -> CheckpointSpec:
    """Make a checkpoint of many small tensors: experts one by one, of 8 rows or columns."""
    geometry = preset(PRESET).geometry(Scale.TINY)
    assert isinstance(geometry.text.mlp, Moe)
    mlp = replace(
        geometry.text.mlp, num_experts=experts, moe_intermediate_size=8, shared_expert_intermediate_size=8
    )
    text = replace(geometry.text, num_hidden_layers=layers, hidden_size=16, mlp=mlp)
    return CheckpointSpec(
        preset(PRESET),
        decoder_experts=ExpertLayout.PER_EXPERT,
        mtp_experts=ExpertLayout.PER_EXPERT,
        scale=Scale.REAL,  # the only one that asks for no distinct dimensions
        shard_limit=2_000_000,
        dimensions=replace(geometry, text=text, vision=None),
    )


def of_size(size: int) -> CheckpointSpec:
    """Make a checkpoint of about so many bytes, almost all of them in two tensors, in one file."""
    geometry = preset(PRESET).geometry(Scale.TINY)
    text = replace(geometry.text, vocab_size=max(640, size // (4 * geometry.text.hidden_size)))
    return CheckpointSpec(
        preset(PRESET), scale=Scale.REAL, dimensions=replace(geometry, text=text), shard_limit=1 << 40
    )


@contextmanager
def files(spec: CheckpointSpec, folder: Path) -> Iterator[Work]:
    """Give what is done with a checkpoint without bytes."""
    written = spec.write(folder, sparse=True)
    config = json.loads((written / "config.json").read_text(encoding="utf-8"))
    tensors = read_folder(written)
    again = folder.with_name(f"{folder.name}-again")

    def generate() -> None:
        shutil.rmtree(again, ignore_errors=True)
        replace(spec).write(again, sparse=True)  # a copy, which has planned nothing yet

    yield {
        "generate --sparse": generate,
        "inspect": lambda: inspect(written),
        "diff": lambda: compare_folders(written, written),
        "oracle: recipes of a rank": lambda: native_parameters(tensors, config, Parallel(), Coordinates()),
    }
    shutil.rmtree(written)
    shutil.rmtree(again, ignore_errors=True)


@contextmanager
def bytes_on_disk(spec: CheckpointSpec, folder: Path) -> Iterator[Work]:
    """Give what is done with a checkpoint's bytes."""

    def generate() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        replace(spec).write(folder)

    yield {"generate": generate, "diff": lambda: compare_folders(folder, folder)}
    shutil.rmtree(folder)


@contextmanager
def all_wrong(spec: CheckpointSpec, folder: Path) -> Iterator[Work]:
    """Give what is done with a model of which every tensor is wrong, in a way that nothing explains."""
    del folder
    source = {name: replace(tensor, content=tensor.data) for name, tensor in GeneratedTensors(spec).items()}
    config = json.loads(spec.plan().texts["config.json"])
    place = source, config, Parallel(), Coordinates()
    recipes = native_parameters(*place)
    held = shuffled({name: RawTensor.from_array(recipe()) for name, recipe in recipes.items()})
    export = shuffled(source)
    yield {
        "comparison and origins": lambda: compare(source, export.items(), Origins(source, config=config).of),
        "oracle and origins": lambda: check(recipes, held.items(), NativeOrigins(*place).of),
    }


def shuffled(tensors: Tensors) -> dict[str, RawTensor]:
    """Put every tensor's bytes into another order."""
    source = np.random.default_rng(0)
    return {
        name: replace(tensor, content=source.permutation(tensor.data)) for name, tensor in tensors.items()
    }


@contextmanager
def findings(count: int, folder: Path) -> Iterator[Work]:
    """Give what is done with so many findings: alike ones, and ones of which no two have alike names."""
    letters = str.maketrans("0123456789", "abcdefghij")
    sides = Verdict.MISSING, Verdict.UNEXPECTED
    renamed = [Finding(f"{str(n // 2).translate(letters)}.weight", sides[n % 2]) for n in range(count)]
    alike = [
        Finding(
            f"model.layers.{n // 512}.mlp.experts.{n % 512}.down_proj.weight",
            Verdict.WRONG,
            f"{n} of 96 elements differ, first [0, {n}]: 0x{n:08x} (0) instead of 0x0001 (1)",
        )
        for n in range(count)
    ]
    records = [_record(alike)]

    def report() -> dict[str, Any]:
        return report_of(records, device=Device.CPU, import_seconds=0, seconds=1)

    made = report()
    folder.mkdir()
    yield {
        "fold, alike": lambda: [*map(str, fold(records))],
        "fold, no two alike": lambda: [*map(str, fold([_record(renamed)]))],
        "report": lambda: write_report(report(), folder / "report.json"),
        "page": lambda: write_page([made], folder / "page.html"),
    }
    shutil.rmtree(folder)


def _record(found: list[Finding]) -> Record:
    return Record(
        bridge="a-bridge 1",
        engine="an engine",
        checkpoint="a-checkpoint",
        parallel="tp1",
        ranks=1,
        stage="stream",
        check="tp1::stream",
        verdict=Verdict.WRONG,
        declared=0,
        seconds=1.0,
        case_seconds=1.0,
        load_seconds=1.0,
        compared=len(found),
        tensors=found,
    )


def nothing(rank: Rank) -> None:
    """Do nothing on a rank."""
    del rank

"""The oracle's parameters, without any bridge's load, make the model compute what transformers does."""

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.forward.agreement import BOUND

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]
Records = list[dict[str, Any]]

Q35, Q36, DENSE, TIED = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b"
TEXT, TWO = {"text_only": True}, {"mtp_layers": 2}


@pytest.fixture
def computed(main_job: Job) -> Callable[..., Records]:
    """The records of the stage `forward` for a model that the oracle has filled."""

    def run(checkpoint: Path, adapter: str, *layouts: str) -> Records:
        options = ["--stage=forward", "--adapter", f"filled_by_the_oracle:{adapter}"]
        _, report = main_job(checkpoint, *options, *(f"--parallel={layout}" for layout in layouts))
        return report["records"]

    return run


@pytest.mark.parametrize(
    ("preset", "options", "adapter", "layouts"),
    [
        (Q36, {}, "Grouped", ["tp1", "tp2", "pp2", "ep2", "ep2 etp2", "tp2 pp2 vpp2"]),
        (Q36, {}, "Sequential", ["tp1", "ep2 etp2"]),
        (Q35, {}, "Grouped", ["tp1", "ep2"]),
        (Q35, {}, "Sequential", ["tp1"]),
        (Q36, TEXT | TWO, "Grouped", ["tp1", "pp2", "ep2"]),
        (Q36, TWO, "Sequential", ["tp1"]),
        (DENSE, {}, "Grouped", ["tp1", "tp2", "pp2"]),
        (DENSE, TEXT | TWO, "Grouped", ["tp1", "tp2"]),
        (TIED, {}, "Grouped", ["tp1", "tp2 pp2"]),
        ("qwen3.6-35b-a3b-fp8", {}, "Grouped", ["tp1"]),
    ],
)
def test_what_the_oracle_expects_computes_what_transformers_does(
    preset: str,
    options: dict[str, Any],
    adapter: str,
    layouts: list[str],
    make_checkpoint: MakeCheckpoint,
    computed: Callable[..., Records],
) -> None:
    records = computed(make_checkpoint(preset, **options), adapter, *layouts)
    assert [(record["parallel"], record["verdict"]) for record in records] == [
        (layout, "exact") for layout in layouts
    ]
    names = {"main", *(f"mtp.{layer}" for layer in range(options.get("mtp_layers", 1)))}
    for record in records:
        assert set(record["agreement"]) == names
        assert 0 < max(record["agreement"].values()) < BOUND / 10


ALL, MTP = {"main", "mtp.0"}, {"mtp.0"}


@pytest.mark.parametrize(
    ("mistake", "preset", "parallel", "wrong"),
    [
        ("PackedGateAsUp", Q36, "tp1", ALL),
        ("GateAsUp", DENSE, "tp1", ALL),
        ("GateAsUp", Q35, "tp1", ALL),
        ("GateAsQuery", Q36, "tp1", ALL),
        ("GroupsApart", Q36, "tp1", ALL),
        ("KeyAsValue", DENSE, "tp1", ALL),
        ("KeyNormAsQueryNorm", Q36, "tp1", ALL),
        ("AlphaAsBeta", Q36, "tp1", ALL),
        ("DecayAsBias", Q36, "tp1", ALL),
        ("NormNotCentred", Q36, "tp1", ALL),
        ("NormBeforeAsAfter", Q36, "tp1", ALL),
        ("VisionHeadsApart", Q36, "tp1", ALL),
        ("VisionKeyAsValue", DENSE, "tp1", ALL),
        ("MtpHalves", Q36, "tp1", MTP),
        ("MtpNorms", DENSE, "tp1", MTP),
        ("NoMtpNorm", Q36, "tp1", MTP),
        ("RowsOfAllParts", Q36, "tp2", ALL),
        ("OtherRanksExperts", Q36, "ep2", ALL),
    ],
)
def test_a_mistake_of_the_oracle_is_seen(
    mistake: str,
    preset: str,
    parallel: str,
    wrong: set[str],
    make_checkpoint: MakeCheckpoint,
    computed: Callable[..., Records],
) -> None:
    [record] = computed(make_checkpoint(preset), mistake, parallel)
    assert record["verdict"] == "differs"
    figures = {name: inf if figure is None else figure for name, figure in record["agreement"].items()}
    assert {name for name in figures if figures[name] > BOUND} == wrong
    assert all(figures[name] < BOUND / 10 for name in figures.keys() - wrong)

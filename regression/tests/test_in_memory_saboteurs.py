"""Each mistake of an in-memory bridge shows in the checks that can see it, and in no other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mtp_fixtures import Geometry
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.conversions import Array, Conversion, Cut
from mtp_regression.in_memory.table import TABLE, Section
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.threads import ThreadRank
from mtp_regression.stages.case import Stage

from .in_memory_stages import CONVERTED, found

Q36, DENSE, TIED, NEXT = "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b", "qwen3-next-80b-a3b"

IDEAS = [
    ("HeadsInTurn", TIED, "tp1", "linear_qkv.weight"),
    ("GatedNormAsItIs", TIED, "tp1", "out_norm.weight"),
    ("ProjectionsCutTogether", TIED, "tp2", "in_proj.weight"),
    ("ConvolutionCutTogether", TIED, "tp2", "conv1d.weight"),
    ("DecaysReversed", TIED, "tp1", "A_log"),
    ("FusedInTurn", NEXT, "tp1", "in_proj.weight"),
    ("UpAboveGate", TIED, "tp1", "mlp.linear_fc1.weight"),
    ("GateAndUpCutTogether", TIED, "tp2", "mlp.linear_fc1.weight"),
    ("UpAboveGateOfExperts", Q36, "tp1", "experts.linear_fc1.weight"),
    ("SharedExpertCutTogether", Q36, "tp2", "shared_experts.linear_fc1.weight"),
    ("RouterReversed", Q36, "tp1", "router.weight"),
    ("VisionHeadsInTurn", TIED, "tp1", "linear_qkv.weight"),
    ("VisionBiasWhole", TIED, "tp2", "linear_fc1.bias"),
    ("VocabularyReversed", DENSE, "tp1", "word_embeddings.weight"),
    ("OutputReversed", DENSE, "tp1", "output_layer.weight"),
    ("MtpNormsExchanged", TIED, "tp1", "norm.weight"),
    ("MtpProjectionCutByColumns", TIED, "tp2", "eh_proj.weight"),
    ("StridedExperts", Q36, "ep2", "experts.linear_fc"),
    ("PackedUpFirst", Q36, "tp1", "experts.linear_fc1.weight"),
]
"""Saboteur, model, layout, and a part of the names of all parameters that are wrong."""


@pytest.mark.parametrize(("saboteur", "model", "layout", "name"), IDEAS, ids=[row[0] for row in IDEAS])
def test_a_mistake_of_both_ways(
    saboteur: str, model: str, layout: str, name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """The round trip is exact; the oracle knows, and values that are the oracle's come out wrong."""
    stages = (*CONVERTED, Stage.RETRAINED)
    findings = found(
        make_checkpoint(model), layout, tmp_path, adapter=f"in_memory_ideas:{saboteur}", stages=stages
    )
    assert set(findings) == {Stage.NATIVE, Stage.RETRAINED}
    assert all(name in finding.tensor for finding in findings[Stage.NATIVE])


def test_a_parameter_on_another_stage(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """Its value is right, and nothing writes another into what the oracle does not know."""
    findings = found(
        make_checkpoint(TIED),
        "pp3 Ett|ttm|L",
        tmp_path,
        adapter="in_memory_ideas:FinalNormLast",
        stages=(*CONVERTED, Stage.RETRAINED),
    )
    assert set(findings) == {Stage.NATIVE, Stage.RETRAINED}
    assert {finding.tensor for finding in findings[Stage.NATIVE]} == {"decoder.final_layernorm.weight"}


@pytest.mark.parametrize(
    ("saboteur", "model", "layout", "stage"),
    [
        ("LoadsNoCopies", TIED, "tp2", Stage.NATIVE),
        ("OtherOrder", TIED, "tp2", Stage.STREAM),
        ("SavesAndForgets", TIED, "tp2", Stage.SAVED),
        ("LosesTheTokenizer", TIED, "tp2", Stage.FILES),
        ("PassesMtpThrough", TIED, "tp2", Stage.RETRAINED),
        ("RemembersTheFirst", TIED, "tp2", Stage.RELOADED),
        ("SwapsExpertsOfACheckpoint", Q36, "tp1 to ep2", Stage.RESHARDED),
    ],
)
def test_a_mistake_that_one_check_sees(
    saboteur: str, model: str, layout: str, stage: Stage, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    findings = found(make_checkpoint(model), layout, tmp_path, adapter=f"in_memory_saboteurs:{saboteur}")
    assert set(findings) == {stage}


def test_a_row_that_is_not_there(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    findings = found(make_checkpoint(TIED), "tp1", tmp_path, adapter="in_memory_saboteurs:DropsARow")
    assert set(findings) == {*CONVERTED, Stage.FILES, Stage.RETRAINED, Stage.RELOADED}
    names = {finding.tensor for stage in CONVERTED for finding in findings[stage]}
    assert names == {"mtp.fc.weight", "mtp.layers.0.eh_proj.weight"}


def test_a_mistake_of_the_way_back(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    findings = found(make_checkpoint(TIED), "tp1", tmp_path, adapter="in_memory_saboteurs:ExportsGateAsUp")
    assert set(findings) == {Stage.STREAM, Stage.SAVED, Stage.RETRAINED, Stage.RELOADED}


def test_the_layout_of_the_first_checkpoint(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    findings = found(
        make_checkpoint(Q36),
        "tp1",
        tmp_path,
        adapter="in_memory_saboteurs:KeepsTheFirstLayout",
        stages=(Stage.RELOADED,),
    )
    assert {finding.verdict.value for finding in findings[Stage.RELOADED]} == {"flip"}


def _upside_down(row: Conversion) -> Conversion:
    def order(sizes: Geometry, *tensors: Array) -> Array:
        return row.order(sizes, *tensors)[::-1]

    one_row = row.name.endswith("gate_weight")
    return replace(row, offset=1) if one_row else replace(row, order=order)


def _cut_otherwise(row: Conversion) -> Conversion:
    one_row = row.name.endswith("gate_weight")
    cut = Cut.ROW_PARALLEL if one_row else Cut.COLUMN_PARALLEL
    return replace(row, cut=cut if row.cut is Cut.WHOLE else Cut.WHOLE)


MODELS = {Section.FUSED_LINEAR: NEXT, Section.MIXTURE: Q36, Section.EXPERT: Q36}


@pytest.mark.parametrize("mistake", [_upside_down, _cut_otherwise])
@pytest.mark.parametrize(
    ("section", "number"),
    [
        pytest.param(section, number, id=f"{section}-{row.name}")
        for section, rows in TABLE.items()
        for number, row in enumerate(rows)
    ],
)
def test_the_oracle_judges_every_row(
    section: Section,
    number: int,
    mistake: Callable[[Conversion], Conversion],
    make_checkpoint: MakeCheckpoint,
) -> None:
    """A bridge that has one row alone: right, all its parameters are; with a mistake, none."""
    folder = make_checkpoint(MODELS.get(section, DENSE))
    row, parallel = TABLE[section][number], Parallel(tp=2, etp=2)
    wrong = []
    for conversion in (row, mistake(row)):
        bridge = InMemoryBridge()
        bridge.table = {**dict.fromkeys(Section, ()), section: (conversion,)}
        bridge.world = ThreadRank(1, 2, None)  # type: ignore[arg-type]  # meets nobody in a load
        bridge.build(folder, parallel)
        bridge.load(folder)
        config = json.loads((folder / "config.json").read_text())
        expected = native_parameters(read_folder(folder), config, parallel, bridge.coordinates())
        held = ((name, RawTensor.from_array(array)) for name, array in bridge.parameters())
        findings = [found for found in check(expected, held) if found.verdict is not Verdict.MISSING]
        wrong.append((len(findings), len(bridge.model)))
    (of_right, right), (of_wrong, every) = wrong
    assert (of_right, of_wrong) == (0, every)
    assert right == every > 0

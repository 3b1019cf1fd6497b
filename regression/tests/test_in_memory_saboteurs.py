"""Each mistake of an in-memory bridge shows in the checks that can see it, and in no other."""

from pathlib import Path

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
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
        make_checkpoint(model), layout, tmp_path, adapter=f"in_memory_saboteurs:{saboteur}", stages=stages
    )
    assert set(findings) == {Stage.NATIVE, Stage.RETRAINED}
    assert all(name in finding.tensor for finding in findings[Stage.NATIVE])


def test_a_parameter_on_another_stage(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """Its value is right, and nothing writes another into what the oracle does not know."""
    findings = found(
        make_checkpoint(TIED),
        "pp3 Ett|ttm|L",
        tmp_path,
        adapter="in_memory_saboteurs:FinalNormLast",
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


def test_the_layout_of_the_first_checkpoint(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    findings = found(
        make_checkpoint(Q36),
        "tp1",
        tmp_path,
        adapter="in_memory_saboteurs:KeepsTheFirstLayout",
        stages=(Stage.RELOADED,),
    )
    assert {finding.verdict.value for finding in findings[Stage.RELOADED]} == {"flip"}

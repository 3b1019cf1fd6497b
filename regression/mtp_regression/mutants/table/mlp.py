"""Mutants that err both ways alike, so that a round trip is exact: MLPs, experts, and what rank has what."""

from mtp_regression.in_memory.conversions import one_part
from mtp_regression.in_memory.table import Section
from mtp_regression.mutants.changes import conversions as c
from mtp_regression.mutants.changes import placement as p
from mtp_regression.mutants.changes.conversions import attributes, row
from mtp_regression.mutants.mutant import DENSE, MOE, Mutant
from mtp_regression.stages.case import Stage

BOTH = (Stage.NATIVE, Stage.RETRAINED)

MLP = (
    Mutant(
        "gate-up-exchanged",
        "Puts up's rows above gate's in dense MLPs, and takes them back so.",
        "slime 1702",
        row(Section.DENSE, "linear_fc1.weight", order=c.up_above_gate),
        BOTH,
        "gate and up exchanged",
    ),
    Mutant(
        "gate-up-interleaved",
        "Puts a row of up below every row of gate in dense MLPs.",
        "",
        row(Section.DENSE, "linear_fc1.weight", order=c.gate_up_in_turn),
        BOTH,
        "gate and up interleaved",
    ),
    Mutant(
        "gate-up-cut-together",
        "Gives the first tensor-parallel rank gate and the second up, in place of half of each.",
        "",
        row(Section.DENSE, "linear_fc1.weight", parts=one_part),
        BOTH,
        "gate, up cut as one, not one by one",
        layout="tp2",
    ),
    Mutant(
        "expert-gate-up-exchanged",
        "Puts up's rows above gate's in routed experts.",
        "tinker-cookbook 459",
        row(Section.EXPERT, "linear_fc1.weight{expert}", order=c.up_above_gate),
        BOTH,
        "gate and up exchanged",
        model=MOE,
    ),
    Mutant(
        "packed-up-first",
        "Takes the upper half of each packed expert for up.",
        "",
        attributes(checkpoint=c.UpFirst),
        BOTH,
        "gate and up exchanged",
        model=MOE,
    ),
    Mutant(
        "shared-expert-cut-together",
        "Gives the first tensor-parallel rank the shared expert's gate and the second its up.",
        "",
        row(Section.MIXTURE, "linear_fc1.weight", parts=one_part),
        BOTH,
        "gate, up cut as one, not one by one",
        model=MOE,
        layout="tp2",
    ),
    Mutant(
        "router-reversed",
        "Numbers the router's experts from the last one.",
        "",
        row(Section.MIXTURE, "router.weight", order=c.reversed_rows),
        BOTH,
        "rows reversed",
        model=MOE,
    ),
    Mutant(
        "experts-in-turn",
        "Gives rank r of ep2 every second expert, in place of neighbours.",
        "",
        attributes(placement=p.ExpertsInTurn),
        BOTH,
        "is expert 2's, not expert 1's",
        model=MOE,
        layout="ep2",
    ),
    Mutant(
        "experts-from-the-last-rank",
        "Gives the first experts to the last expert-parallel rank.",
        "",
        attributes(placement=p.ExpertsFromTheLastRank),
        BOTH,
        "expert",
        model=MOE,
        layout="ep2",
    ),
    Mutant(
        "shards-from-the-last-rank",
        "Gives the first shard of every weight to the last tensor-parallel rank.",
        "Megatron-LM 1989",
        attributes(placement=p.LaterRanksShardsFirst),
        BOTH,
        "shard of tp rank",
        layout="tp2",
    ),
    Mutant(
        "virtual-stages-in-blocks",
        "Gives a pipeline rank virtual stages that follow each other, in place of every second one.",
        "Megatron-LM fork 53",
        attributes(placement=p.VirtualStagesInBlocks),
        BOTH,
        "layer",
        layout="pp2 vpp2",
        layers="",
    ),
    Mutant(
        "final-norm-on-the-last-stage",
        "Puts the final norm into the last stage, although that has no decoder layer.",
        "",
        attributes(placement=p.FinalNormLast),
        BOTH,
        layout="pp3 Ett|ttm|L",
        layers="",
    ),
    Mutant(
        "mtp-stage-without-embedding",
        "Gives the stage that has MTP no copy of the embedding.",
        "Megatron-Bridge 2799",
        attributes(placement=p.MtpWithoutEmbedding),
        (Stage.NATIVE,),
        model=DENSE,
        layout="pp2",
    ),
)

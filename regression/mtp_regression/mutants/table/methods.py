"""Mutants that err in one method: before, after or beside an export, or with a second checkpoint."""

from mtp_regression.mutants.changes import methods as c
from mtp_regression.mutants.changes.methods import passing_through, resharding
from mtp_regression.mutants.mutant import MOE, MOE_PER_EXPERT, Mutant
from mtp_regression.stages.case import Stage

EXPORTED = (Stage.STREAM, Stage.SAVED, Stage.RETRAINED, Stage.RELOADED)
STREAMED = (Stage.STREAM, Stage.RETRAINED, Stage.RELOADED)

METHODS = (
    Mutant(
        "one-rank-in-another-order",
        "Yields two tensors in another order on the last rank.",
        "",
        c.OtherOrder,
        (Stage.STREAM,),
        layout="tp2",
    ),
    Mutant(
        "embedding-twice",
        "Yields the embedding twice, once for each stage that has it.",
        "Megatron-Bridge 2799, verl 6259",
        c.YieldsTwice,
        STREAMED,
        layout="pp2",
    ),
    Mutant(
        "one-buffer",
        "Yields one buffer again and again, which a consumer that keeps tensors sees change.",
        "",
        c.OneBuffer,
        (Stage.STREAM,),
    ),
    Mutant(
        "streams-and-forgets",
        "Zeroes a parameter when it has streamed.",
        "",
        c.StreamsAndForgets,
        (Stage.STREAM,),
    ),
    Mutant(
        "saves-and-forgets",
        "Zeroes a parameter when it has saved.",
        "",
        c.SavesAndForgets,
        (Stage.SAVED,),
    ),
    Mutant(
        "mtp-passed-through",
        "Exports MTP as it was loaded, whatever the model holds.",
        "slime 1904",
        passing_through("mtp"),
        (Stage.RETRAINED,),
        "as in the checkpoint that was loaded",
    ),
    Mutant(
        "vision-passed-through",
        "Exports the vision tower as it was loaded, whatever the model holds.",
        "slime 2222",
        passing_through("vision"),
        (Stage.RETRAINED,),
        "as in the checkpoint that was loaded",
    ),
    Mutant(
        "norms-of-the-first-checkpoint",
        "Loads nothing into MTP's norms when it loads a second checkpoint.",
        "",
        c.RemembersTheFirst,
        (Stage.RELOADED,),
        "never loaded anew",
    ),
    Mutant(
        "layout-of-the-first-checkpoint",
        "Exports in the layout of the first checkpoint that it met.",
        "SGLang 38878",
        c.KeepsTheFirstLayout,
        (Stage.RELOADED,),
        model=MOE,
    ),
    Mutant(
        "layout-by-the-folders-name",
        "Guesses the layout of MTP's experts from the name of the folder.",
        "Automodel 3229",
        c.LayoutOfTheFolder,
        (Stage.STREAM, Stage.SAVED, Stage.RETRAINED),
        model=MOE,
        options={"fault": "misleading-name"},
    ),
    Mutant(
        "resharded-experts-swapped",
        "Exchanges two experts when it loads a Megatron checkpoint.",
        "Megatron-Bridge 1716",
        resharding(c.swap_experts),
        (Stage.RESHARDED,),
        "experts permuted: holds 1, 0",
        model=MOE,
        layout="tp1 to ep2",
    ),
    Mutant(
        "resharded-first-segment-alone",
        "Loads the first segment alone of a Megatron checkpoint of two stages.",
        "Megatron-Bridge 4992",
        resharding(c.first_segment_alone),
        (Stage.RESHARDED,),
        "all zero",
        layout="pp2 to tp1",
        layers="",
    ),
    Mutant(
        "resharded-shards-as-they-lie",
        "Puts shards of gate and up together as they lie when it loads a checkpoint of two ranks.",
        "Megatron-Bridge 1716",
        resharding(c.shards_as_they_lie),
        (Stage.RESHARDED,),
        "shards",
        layout="tp2 to tp1",
    ),
    Mutant(
        "export-fails-on-one-rank",
        "Raises an error in the export on a rank that does not have every expert.",
        "Automodel 2595, AReaL 1398",
        c.failing("expert 4 is not in the state dict", lambda bridge: bridge.coordinates().ep > 0),
        (*EXPORTED, Stage.FILES),
        model=MOE_PER_EXPERT,
        layout="ep2",
    ),
)

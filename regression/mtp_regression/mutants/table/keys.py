"""Mutants that err on the way out, in which tensors there are and what they are called: any bridge can."""

from functools import partial

from mtp_checkpoint.layouts.keys import TEXT_PREFIX
from mtp_regression.mutants.changes import exports as c
from mtp_regression.mutants.changes.exports import added, dropped, each, renamed
from mtp_regression.mutants.mutant import DENSE, MOE, MOE_FP8, MOE_PER_EXPERT, Changed, Mutant
from mtp_regression.mutants.table.exports import EXPORTED
from mtp_regression.stages.case import Stage

LOST = (*EXPORTED, Stage.FILES)
OF_MOE = partial(Mutant, model=MOE)

KEYS = (
    OF_MOE(
        "packed-written-one-by-one",
        "Writes MTP's experts one by one, although they were packed.",
        "Automodel 3229, mcore-bridge 166",
        Changed(c.unpacked),
        EXPORTED,
    ),
    OF_MOE(
        "one-by-one-written-packed",
        "Writes MTP's experts packed, although they were one by one.",
        "Automodel 2778",
        Changed(c.packed),
        EXPORTED,
        model=MOE_PER_EXPERT,
    ),
    OF_MOE(
        "both-layouts-written",
        "Writes packed experts of MTP one by one as well.",
        "slime 1904",
        Changed(c.unpacked_too),
        LOST,
    ),
    OF_MOE(
        "expert-dropped",
        "Leaves one expert of MTP out.",
        "Automodel 2595, VeOmni 799",
        dropped(r"^mtp\..*experts\.5\."),
        LOST,
        model=MOE_PER_EXPERT,
    ),
    OF_MOE(
        "experts-named-locally",
        "Names the experts of every expert-parallel rank from 0, so that the last rank's win.",
        "AReaL 1595",
        Changed(c.named_locally),
        LOST,
        origin="experts.4",
        model=MOE_PER_EXPERT,
    ),
    Mutant(
        "mtp-dropped",
        "Exports nothing of MTP, which the configuration still declares.",
        "unsloth 11042, Model-Optimizer 2427",
        dropped(r"^mtp\."),
        LOST,
    ),
    Mutant(
        "mtp-below-another-prefix",
        "Exports MTP below `model.mtp.`.",
        "Megatron-Bridge 2685, 4819, 5252",
        renamed(r"^mtp\.", "model.mtp."),
        LOST,
    ),
    Mutant(
        "mtp-as-a-decoder-layer",
        "Exports MTP's layer as one more of the decoder.",
        "Model-Optimizer 1532",
        renamed(r"^mtp\.layers\.0\.", f"{TEXT_PREFIX}layers.2."),
        LOST,
    ),
    Mutant(
        "head-dropped",
        "Leaves `lm_head.weight` out.",
        "Megatron-Bridge 4188",
        dropped("^lm_head"),
        LOST,
        model=DENSE,
    ),
    Mutant(
        "tied-head-written",
        "Writes `lm_head.weight` although it is the embedding.",
        "",
        added("embed_tokens.weight$", c.head_too),
        EXPORTED,
    ),
    Mutant(
        "mtp-embedding-written",
        "Writes the embedding's copy on MTP's stage as a tensor of MTP.",
        "Megatron-Bridge 2799",
        added("^mtp.fc", lambda _, tensor: {"mtp.layers.0.embed_tokens.weight": tensor.copy()}),
        EXPORTED,
    ),
    Mutant(
        "vision-dropped",
        "Exports nothing of the vision tower.",
        "slime 2222",
        dropped(r"^model\.visual\."),
        EXPORTED,
    ),
    Mutant(
        "padding-exported",
        "Exports the embedding with the rows that it was padded with.",
        "Megatron-Bridge 5375",
        each("embed_tokens|lm_head", c.padded),
        EXPORTED,
        "added (zeros); the rest is right",
        model=DENSE,
    ),
    Mutant(
        "scales-dropped",
        "Exports FP8 weights without their scales.",
        "miles 1317",
        dropped("_scale_inv$"),
        LOST,
        model=MOE_FP8,
    ),
)

"""Mutants that do not refuse, as they should, a checkpoint that contradicts itself."""

from mtp_regression.mutants.changes import loads as c
from mtp_regression.mutants.mutant import MOE, MOE_PER_EXPERT, Mutant
from mtp_regression.stages.case import Stage

REFUSALS = (
    Mutant(
        "absent-mtp-is-zeros",
        "Loads a checkpoint whose configuration declares MTP that it does not have.",
        "unsloth 11042, ms-swift 7848",
        c.FillsWhatIsAbsent,
        (Stage.REFUSED,),
        model=MOE,
        options={"fault": "mtp-declared-absent"},
    ),
    Mutant(
        "both-layouts-accepted",
        "Loads a checkpoint that has experts in both layouts, whichever is right.",
        "slime 1904",
        c.FillsWhatIsAbsent,
        (Stage.REFUSED,),
        model=MOE,
        options={"fault": "both-layouts"},
    ),
    Mutant(
        "expert-gap-accepted",
        "Counts the experts of MTP, and does not see that one of them is missing.",
        "",
        c.FillsWhatIsAbsent,
        (Stage.REFUSED,),
        model=MOE_PER_EXPERT,
        options={"fault": "expert-gap"},
    ),
    Mutant(
        "refuses-mutely",
        "Refuses a checkpoint that contradicts itself, and does not say what does.",
        "SGLang 16235",
        c.RefusesMutely,
        (Stage.REFUSED,),
        model=MOE,
        options={"fault": "half-packed"},
    ),
)

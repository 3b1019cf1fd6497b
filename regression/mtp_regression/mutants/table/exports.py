"""Mutants that err on the way out, in the tensors themselves: any bridge can. Values, and dtypes."""

from functools import partial

from mtp_regression.in_memory.conversions import BF16
from mtp_regression.mutants.changes import exports as c
from mtp_regression.mutants.changes.exports import PACKED, as_dtype, each, in_other_key, scaled
from mtp_regression.mutants.mutant import MOE, MOE_FP8, MOE_PER_EXPERT, Changed, Mutant
from mtp_regression.stages.case import Stage

EXPORTED = (Stage.STREAM, Stage.SAVED, Stage.RETRAINED, Stage.RELOADED)
FC, GATE_UP = r"^mtp\.fc\.weight$", r"^mtp\..*experts\.gate_up_proj$"
OF_MOE = partial(Mutant, seen_by=EXPORTED, model=MOE)

EXPORTS = (
    OF_MOE(
        "exports-gate-as-up",
        "Exports gate's rows under up's, and the reverse, in packed experts of MTP.",
        "slime 1702",
        each(GATE_UP, c.halves_exchanged),
        origin="gate and up exchanged",
    ),
    Mutant(
        "exports-gate-under-ups-key",
        "Exports gate under the key of up, and the reverse.",
        "",
        in_other_key(r"^mtp\.layers\.0\.mlp\.", "gate_proj", "up_proj"),
        EXPORTED,
        "is mtp.layers.0.mlp",
    ),
    OF_MOE(
        "exports-gate-up-interleaved",
        "Exports a row of up below every row of gate in packed experts of MTP.",
        "",
        each(GATE_UP, c.interleaved),
        origin="gate and up interleaved",
    ),
    OF_MOE(
        "exports-experts-swapped",
        "Exports two experts of MTP in each other's place.",
        "AReaL 1595",
        each(PACKED, c.experts_swapped),
        origin="experts 2 and 5 exchanged",
    ),
    OF_MOE(
        "exports-last-expert-everywhere",
        "Exports the last expert of MTP in the place of each.",
        "Megatron-Bridge 1871",
        each(PACKED, c.last_expert_everywhere),
        origin="expert",
    ),
    OF_MOE(
        "exports-down-transposed",
        "Exports packed `down_proj` as [experts, intermediate, hidden].",
        "Megatron-Bridge 3278, torchtitan 4373",
        each(r"experts\.down_proj$", c.transposed),
        seen_by=(*EXPORTED, Stage.FILES),
        origin="axes 1 and 2 exchanged",
    ),
    OF_MOE(
        "exports-down-transposed-in-its-shape",
        "Exports packed `down_proj` transposed, where the shape does not tell.",
        "transformers 47031",
        each(r"^mtp\..*experts\.down_proj$", c.transposed_in_place),
        origin="transposed",
        options={"scale": "square"},
    ),
    Mutant(
        "exports-fc-halves-exchanged",
        "Exports the halves of `mtp.fc` in each other's place.",
        "slime 1702",
        each(FC, c.columns_exchanged),
        EXPORTED,
        "halves exchanged",
    ),
    Mutant(
        "exports-fc-halved",
        "Exports half the values of `mtp.fc`.",
        "",
        each(FC, scaled(0.5)),
        EXPORTED,
        "multiplied by 1/2",
    ),
    Mutant(
        "exports-fc-reversed",
        "Exports the rows of `mtp.fc` from the last.",
        "",
        each(FC, lambda tensor: tensor[::-1].copy()),
        EXPORTED,
        "rows reversed",
    ),
    OF_MOE(
        "exports-one-bit",
        "Exports one element of MTP's router with another last bit.",
        "",
        each(r"^mtp\..*mlp\.gate\.weight$", c.one_bit),
        origin="row",
    ),
    Mutant(
        "exports-norms-shifted",
        "Adds 1 to MTP's norms in the export.",
        "mlx-lm 1735",
        each(r"^mtp\..*norm", c.shifted),
        EXPORTED,
        "1 was added",
    ),
    Mutant(
        "exports-through-fp16",
        "Rounds MTP's matrices through FP16 in the export.",
        "",
        each(r"^mtp\..*proj", c.through("float16")),
        EXPORTED,
        "rounded through FP16",
    ),
    Mutant(
        "exports-one-dtype",
        "Exports MTP's norm in F32.",
        "",
        each(r"^mtp\.norm", as_dtype("float32")),
        EXPORTED,
    ),
    Mutant(
        "exports-float32-as-bf16",
        "Exports GDN's decays and norms, which are F32, in BF16.",
        "Automodel 2484, miles 975",
        each(r"A_log|linear_attn\.norm", as_dtype(BF16)),
        EXPORTED,
        model=MOE_PER_EXPERT,
    ),
    Mutant(
        "exports-fp8-as-bf16",
        "Exports BF16 where the checkpoint has FP8 and scales.",
        "AReaL 1384",
        Changed(c.without_fp8),
        EXPORTED,
        model=MOE_FP8,
    ),
    Mutant(
        "exports-scales-squeezed",
        "Exports scales without their axes of size 1.",
        "Megatron-Bridge 5731",
        each("_scale_inv$", lambda tensor: tensor.squeeze()),
        EXPORTED,
        "dimensions of 1 removed",
        model=MOE_FP8,
    ),
)

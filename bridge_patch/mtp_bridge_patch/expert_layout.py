"""How the routed experts of a block are stored."""

from enum import StrEnum

PACKED_TENSORS = ("gate_up_proj", "down_proj")
"""Names of a layer's packed tensors below `...mlp.experts.`, which have no `.weight` suffix."""

PROJECTIONS = ("gate", "up", "down")
"""Projections of one expert; a key is `...mlp.experts.{expert}.{projection}_proj.weight`."""


SCALE_SUFFIX = "_scale_inv"
"""Added to the key of an FP8 weight: the tensor that its blocks are multiplied by."""


class ExpertLayout(StrEnum):
    """How the routed experts of a block are stored.

    With E experts of width I and hidden size H, PACKED is one tensor ``gate_up_proj`` of shape [E, 2 x I, H]
    (the gate above the up projection) and one ``down_proj`` of shape [E, H, I]; PER_EXPERT is three matrices
    an expert, ``gate_proj`` and ``up_proj`` of shape [I, H] and ``down_proj`` of shape [H, I]; FP8_PER_EXPERT
    is PER_EXPERT in E4M3, with a ``weight_scale_inv`` a matrix, one number for each block of 128 x 128.
    """

    PACKED = "packed"
    PER_EXPERT = "per-expert"
    FP8_PER_EXPERT = "fp8-per-expert"
    ABSENT = "absent"

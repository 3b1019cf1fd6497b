"""Layout of a checkpoint's MTP experts, told from its keys.

Qwen3.5 and Qwen3.6 mixture-of-experts checkpoints have the same architecture string and the same model
type, and store the routed experts of the multi-token prediction (MTP) block differently. Only the keys tell
which layout a checkpoint has; names of models or folders are never looked at, and no tensor is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

# Every key of an MTP layer holds this; a plain search for it spares all other keys the regular expressions.
_MTP_LAYERS = "mtp.layers."

# How many keys of each layout an error shows.
_SHOWN = 3


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


class LayoutError(ValueError):
    """The keys of a checkpoint contradict each other about the layout of its experts."""


@dataclass(frozen=True)
class KeyTable:
    """The keys that one layout gives to the routed experts of an MTP layer.

    Attributes:
        layout: The layout.
        projections: Key pattern of each projection. ``*`` stands for a number, the layer first and then the
            expert, which is also how Megatron-Bridge writes the patterns of its mappings.
    """

    layout: ExpertLayout
    projections: Mapping[str, str]

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches a whole key of this layout, with or without a dotted prefix."""
        keys = "|".join(re.escape(key).replace(r"\*", "[0-9]+") for key in self.projections.values())
        return re.compile(rf"(?:.*\.)?(?:{keys})", re.DOTALL)


MTP_PACKED = KeyTable(
    ExpertLayout.PACKED,
    MappingProxyType(
        {
            "gate_up": "mtp.layers.*.mlp.experts.gate_up_proj",
            "down": "mtp.layers.*.mlp.experts.down_proj",
        }
    ),
)
MTP_PER_EXPERT = KeyTable(
    ExpertLayout.PER_EXPERT,
    MappingProxyType(
        {
            "gate": "mtp.layers.*.mlp.experts.*.gate_proj.weight",
            "up": "mtp.layers.*.mlp.experts.*.up_proj.weight",
            "down": "mtp.layers.*.mlp.experts.*.down_proj.weight",
        }
    ),
)
MTP_KEY_TABLES = (MTP_PACKED, MTP_PER_EXPERT)


def mtp_expert_layout(keys: Iterable[str], *, checkpoint: str = "the checkpoint") -> ExpertLayout:
    """Tell in which layout the routed experts of the MTP layers are stored.

    Takes time linear in the number of keys and looks at every MTP layer. Keys may come in any order, with or
    without a prefix (``model.mtp.layers.0...``), and from a checkpoint without MTP.

    Args:
        keys: Names of all tensors of one checkpoint.
        checkpoint: What an error calls the checkpoint, its path for example.

    Returns:
        The layout; ``ExpertLayout.ABSENT`` where no key belongs to a routed MTP expert.

    Raises:
        LayoutError: Both layouts occur. Keys of each are counted, and the first few shown.
    """
    found: dict[ExpertLayout, list[str]] = {table.layout: [] for table in MTP_KEY_TABLES}
    for key in keys:
        if _MTP_LAYERS in key:
            for table in MTP_KEY_TABLES:
                if table.regex.fullmatch(key):
                    found[table.layout].append(key)
    present = {layout: names for layout, names in found.items() if names}
    if len(present) > 1:
        raise LayoutError(_both_layouts(present, checkpoint))
    return next(iter(present), ExpertLayout.ABSENT)


def _both_layouts(present: Mapping[ExpertLayout, list[str]], checkpoint: str) -> str:
    lines = [f"{checkpoint} stores routed MTP experts in both layouts, so it is not clear which are meant:"]
    for layout, names in present.items():
        shown = ", ".join(names[:_SHOWN])
        more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"  {layout}: {len(names)} {'key' if len(names) == 1 else 'keys'}: {shown}{more}")
    lines.append("Remove the keys of one layout (from the index too), or write the checkpoint anew.")
    return "\n".join(lines)

"""Layout of a checkpoint's MTP experts, told from its keys.

Qwen3.5 and Qwen3.6 mixture-of-experts checkpoints have the same architecture string and the same model
type, and store the routed experts of the multi-token prediction (MTP) block differently. Only the keys tell
which layout a checkpoint has; names of models or folders are never looked at, and no tensor is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from mtp_bridge_patch.expert_keys import listed
from mtp_bridge_patch.expert_layout import ExpertLayout
from mtp_bridge_patch.report import LayoutError

# Every key of an MTP layer holds this; a plain search for it spares all other keys the regular expressions.
_MTP_LAYERS = "mtp.layers."


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
        raise LayoutError(
            checkpoint, [f"MTP experts, {layout}: {listed(keys)}" for layout, keys in present.items()]
        )
    return next(iter(present), ExpertLayout.ABSENT)

"""Fix ``mtp-expert-mappings``: routed experts have mappings in every layout, grouped or one by one.

0.4.x maps the decoder's experts as packed and those of MTP layers one by one, whatever the checkpoint holds;
0.5.x has no mapping either of a decoder that is stored per expert. With ``moe_grouped_gemm=False``
Megatron-Core holds experts as ``local_experts.{e}.linear_fc1.weight`` instead of ``linear_fc1.weight{e}``. Of
these, 0.4.x maps none, 0.5.x the decoder's if they are stored per expert, and 0.6.x the decoder's.

Nothing is transposed on export (upstream's ``transpose_on_export``): the import gives slice e, [H, I], of
``down_proj`` [E, H, I] to ``linear_fc2.weight{e}`` [H, I] as it is, so that stacking the experts makes the
checkpoint's shape and bytes again, also where H = I.
"""

from collections.abc import Iterator
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.mappings import keys_of, param_mapping
from mtp_checkpoint.layouts.expert_layout import PROJECTIONS, TABLES, ExpertLayout
from mtp_checkpoint.layouts.keys import EXPERTS, Block, expert_name

_EXPERTS = "." + EXPERTS  # in Megatron's names as well
_FORMS = ("{}.weight*", "local_experts.*.{}.weight")
"""How Megatron-Core names an expert's parameters: grouped, and one by one."""


def _with_experts(mappings: list[Any], conversion: Conversion) -> Iterator[Any]:
    """Replace the mappings of routed experts by those of the checkpoint's layouts, in both forms."""
    layouts = conversion.layouts or {}
    others = []
    begun = set()
    for mapping in mappings:
        block = _block(mapping)
        if block is None or block not in layouts:
            others.append(mapping)
        elif block not in begun:
            begun.add(block)
            yield from _experts(*_prefixes(mapping), layouts[block])
    yield from others  # the first that fits is taken: a wildcard of theirs may fit experts


def _block(mapping: Any) -> Block | None:
    """Tell whose routed experts a mapping is of; None if of none."""
    name = mapping.megatron_param
    if _EXPERTS not in name:
        return None
    return Block.MTP if "mtp.layers." in name else Block.DECODER


def _prefixes(mapping: Any) -> tuple[str, str]:
    """Return what precedes a projection, on Megatron's side and on the checkpoint's."""
    return _prefix(mapping.megatron_param), _prefix(keys_of(mapping)[0])


def _prefix(name: str) -> str:
    return name[: name.index(_EXPERTS) + len(_EXPERTS)]


def _experts(megatron: str, key: str, layout: ExpertLayout) -> Iterator[Any]:
    classes = param_mapping()
    for form in _FORMS:
        fc1, fc2 = (megatron + form.format(name) for name in ("linear_fc1", "linear_fc2"))
        if TABLES[layout].stacked:
            gate_up, down = (key + expert_name(name, None) for name in TABLES[layout].tensors)
            yield classes.FusedGatedExpertMapping(megatron_param=fc1, hf_param=gate_up)
            yield classes.FusedExpertMapping(megatron_param=fc2, hf_param=down)
        else:
            gate, up, down = (key + expert_name(name, "*") for name in PROJECTIONS)
            yield classes.GatedMLPMapping(megatron_param=fc1, gate=gate, up=up)
            yield classes.AutoMapping(megatron_param=fc2, hf_param=down)


FIX = Fix(
    id="mtp-expert-mappings",
    failure="Packed MTP experts (0.4.x), a decoder stored per expert, or SequentialMLP have no mapping.",
    fixed_since=None,
    mappings=_with_experts,
)

"""Fix ``mtp-sequential-experts``: routed experts have mappings in every layout, grouped or one by one.

With ``moe_grouped_gemm=False`` Megatron-Core holds experts as ``local_experts.{e}.linear_fc1.weight`` instead
of ``linear_fc1.weight{e}``. Of these, 0.4.x maps none, 0.5.1 the decoder's if they are stored per expert, and
0.6.2 the decoder's. 0.4.x and 0.5.1 have no mapping either of a decoder that is stored per expert. 0.4.x
does not number ``local_experts`` over expert-parallel ranks.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.releases import is_installed_before
from mtp_bridge_patch.upstream.bridges import MODEL_BRIDGE_MODULE, MODULES, keys_of, param_mapping, replace
from mtp_bridge_patch.upstream.conversion import Conversion, rewrite_mappings
from mtp_bridge_patch.upstream.parallel_groups import expert_parallel_group
from mtp_checkpoint.layouts.expert_layout import PROJECTIONS, TABLES, ExpertLayout
from mtp_checkpoint.layouts.keys import EXPERTS, Block, expert_name

_EXPERTS = "." + EXPERTS  # in Megatron's names as well
_LOCAL_EXPERT = re.compile(r"\.experts\.local_experts\.(\d+)\.")
_FORMS = ("{}.weight*", "local_experts.*.{}.weight")
"""How Megatron-Core names an expert's parameters: grouped, and one by one."""


def install(module: ModuleType) -> Callable[[], None]:
    """Change the bridges of a module.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    return rewrite_mappings(module, _with_experts)


def install_numbers(module: ModuleType) -> Callable[[], None]:
    """Number 0.4.x's `local_experts` over expert-parallel ranks, and sort them by number.

    Args:
        module: The imported ``megatron.bridge.models.conversion.model_bridge``.

    Returns:
        What puts the module back as it was.
    """
    undo = ExitStack()
    if not is_installed_before("0.5.0"):
        return undo.close
    upstream_name, upstream_key = module._megatron_local_name_to_global, module.extract_sort_key

    @functools.wraps(upstream_name)
    def global_name(models: Any, config: Any, param_name: str, vp_stage: int | None = None) -> str:
        name: str = upstream_name(models, config, param_name, vp_stage)
        match, group = _LOCAL_EXPERT.search(name), expert_parallel_group(models)
        if match is None or group is None or ".adapter." in name:
            return name
        number = int(match[1]) + config.num_moe_experts // group.size() * group.rank()
        return f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"

    @functools.wraps(upstream_key)
    def sort_key(param_name: str) -> Any:
        numbers, name = upstream_key(param_name)
        if (match := _LOCAL_EXPERT.search(param_name)) and numbers[1] == -1:
            numbers = [numbers[0], int(match[1])]
        return numbers, name

    undo.callback(replace(module, "_megatron_local_name_to_global", global_name))
    undo.callback(replace(module, "extract_sort_key", sort_key))
    return undo.close


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
    id="mtp-sequential-experts",
    failure="Experts held one by one (SequentialMLP), or a decoder stored per expert, have no mapping.",
    fixed_since=None,
    modules=MappingProxyType({**dict.fromkeys(MODULES, install), MODEL_BRIDGE_MODULE: install_numbers}),
)

"""Fix ``expert-numbers``: experts held one by one are numbered over expert-parallel ranks.

0.4.x numbers ``linear_fc1.weight{e}`` over all ranks, and leaves the ``local_experts.{e}`` of a SequentialMLP
as each rank counts them, so that all ranks load the first experts; it does not sort them by number either.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import model_bridge
from mtp_bridge_patch.upstream.parallel_groups import expert_parallel_group
from mtp_bridge_patch.upstream.replacing import replaced

_LOCAL_EXPERT = re.compile(r"\.experts\.local_experts\.(\d+)\.")


@contextmanager
def _numbered() -> Iterator[None]:
    """Let upstream name parameters by these functions, inside a ``with`` block; other models never do."""
    module = model_bridge()
    name, key = module._megatron_local_name_to_global, module.extract_sort_key
    if getattr(name, "func", None) is _global_name:  # inside another such block
        yield
        return
    with (
        replaced(module, "_megatron_local_name_to_global", functools.partial(_global_name, name)),
        replaced(module, "extract_sort_key", functools.partial(_sort_key, key)),
    ):
        yield


def _global_name(
    upstream: Any, models: Any, config: Any, param_name: str, vp_stage: int | None = None
) -> str:
    name: str = upstream(models, config, param_name, vp_stage)
    match, group = _LOCAL_EXPERT.search(name), expert_parallel_group(models)
    if match is None or group is None or ".adapter." in name:
        return name
    number = int(match[1]) + config.num_moe_experts // group.size() * group.rank()
    return f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"


def _sort_key(upstream: Any, param_name: str) -> Any:
    numbers, name = upstream(param_name)
    if (match := _LOCAL_EXPERT.search(param_name)) and numbers[1] == -1:
        numbers = [numbers[0], int(match[1])]
    return numbers, name


FIX = Fix(
    id="expert-numbers",
    failure="Experts held one by one (SequentialMLP) have the same numbers on all expert-parallel ranks.",
    fixed_since="0.5.0",
    naming=_numbered,
)

"""Fix ``strict-load``: what a parameter needs and does not find is an error, before anything is loaded.

Upstream warns of every key that it does not find, one by one, and leaves the parameter as it was initialized;
it never tells of keys that no parameter took. Here all are told at once, as an error, or, with
``loading(strict=False)``, as a warning.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mtp_bridge_patch.errors import IncompleteLoadError
from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Load
from mtp_bridge_patch.upstream.mappings import keys_of
from mtp_bridge_patch.upstream.parallel_groups import expert_parallel_group
from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX

_EXPERT = re.compile(r"(\.experts\.(?:local_experts\.|linear_fc\d\.(?:weight|bias)))(\d+)")
_logger = logging.getLogger(__name__)
_strict: ContextVar[bool] = ContextVar("strict", default=True)


@contextmanager
def loading(*, strict: bool) -> Iterator[None]:
    """Choose, inside a ``with`` block, whether an incomplete load is an error (the default) or a warning."""
    token = _strict.set(strict)
    try:
        yield
    finally:
        _strict.reset(token)


def _mapped(tasks: list[Any]) -> list[Any]:
    # A parameter without a mapping has None for a task, on which upstream crashes: it has been told of.
    return [task for task in tasks if task is not None]


def _check(load: Load) -> None:
    """Compare what all ranks need with what there is; the same on every rank, so that all raise together."""
    bridge, conversion = load.bridge, load.conversion
    keys = set(conversion.source.get_all_keys())
    registry = bridge.mapping_registry()
    tied = getattr(conversion.model_config, "share_embeddings_and_output_weights", False)
    unmapped: list[str] = []
    missing: dict[str, None] = {}
    used: set[str] = set()
    for name in _all_parameters(bridge, load.models, conversion.model_config):
        if tied and "output_layer" in name:
            continue  # it is the embedding
        mapping = registry.megatron_to_hf_lookup(bridge._get_lora_unwrapped_name(name))
        if mapping is None:
            unmapped.append(name)
            continue
        needed = keys_of(mapping)
        used.update(needed)
        missing.update(dict.fromkeys(key for key in needed if key not in keys))
    unused = sorted(key for key in keys - used if key.removesuffix(SCALE_SUFFIX) not in used)
    path = getattr(conversion.pretrained, "model_name_or_path", None) or "the checkpoint"
    error = IncompleteLoadError(str(path), list(missing), unmapped, unused)
    if (missing or unmapped) and _strict.get():
        raise error
    if error.problems:
        _logger.warning("%s", error)


def _all_parameters(bridge: Any, models: list[Any], config: Any) -> Iterator[str]:
    """Yield the global names of all parameters, those of other pipeline and expert-parallel ranks too."""
    group = expert_parallel_group(models)
    ranks = 1 if group is None else group.size()
    for name in bridge._megatron_global_param_names_all_pp_ranks(models):
        match = _EXPERT.search(name)
        if match is None or ranks == 1:
            yield name
            continue
        local = config.num_moe_experts // ranks
        for rank in range(ranks):
            yield f"{name[: match.start(2)]}{int(match[2]) % local + rank * local}{name[match.end(2) :]}"


FIX = Fix(
    id="strict-load",
    failure="Keys that parameters need and do not find are warned of one by one, unused keys not at all.",
    fixed_since=None,
    before_load=_check,
    tasks=_mapped,
)

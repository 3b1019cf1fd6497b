"""Fix ``key-value-heads``: tensor parallelism may be larger than the number of key/value heads.

0.4.x refuses it, although its Megatron-Core, as later ones, splits a head's rows between ranks and gathers
them for the forward pass. What Megatron-Core refuses, a size that is no multiple of the heads, stays refused.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import replaced

_PROVIDERS = ("Qwen35VLModelProvider", "Qwen35VLMoEModelProvider")


def install(module: ModuleType) -> Callable[[], None]:
    """Let models be split further than into their key/value heads.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.qwen35_vl_provider``.

    Returns:
        What puts the module back as it was.
    """
    undo = ExitStack()
    for name in _PROVIDERS:
        provider = getattr(module, name)
        wrapper = _validating(provider.validate_parallelism)
        undo.enter_context(replaced(provider, "validate_parallelism", wrapper))
    return undo.close


def _validating(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(upstream)
    def validate_parallelism(self: Any) -> None:
        if self.tensor_model_parallel_size % self.num_query_groups:
            upstream(self)

    return validate_parallelism


FIX = Fix(
    id="key-value-heads",
    failure="A model cannot be split by tensor parallelism into more parts than it has key/value heads.",
    fixed_since="0.5.0",
    modules=MappingProxyType({"megatron.bridge.models.qwen_vl.qwen35_vl_provider": install}),
)

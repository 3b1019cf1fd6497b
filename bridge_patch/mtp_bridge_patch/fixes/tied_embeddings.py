"""Fix ``tied-embeddings-vpp``: tied embeddings reach the last pipeline stage if it has several model chunks.

``_broadcast_shared_embeddings`` of 0.4.x and 0.5.x looks at a rank's first chunk alone. The output layer is
on the last stage's last chunk: ``AssertionError: Output layer not found``.
"""

from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import MODULES, Method, wrap
from mtp_bridge_patch.upstream.parallel_groups import is_last_stage


def install(module: ModuleType) -> Callable[[], None]:
    """Change the bridges of a module.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    return wrap(module, {"_broadcast_shared_embeddings": _on_the_right_chunk})


def _on_the_right_chunk(upstream: Method) -> Method:
    def _broadcast_shared_embeddings(self: Any, megatron_model: Any) -> Any:
        models = megatron_model if isinstance(megatron_model, list) else [megatron_model]
        return upstream(self, models[-1:] if is_last_stage(models) else models[:1])

    return _broadcast_shared_embeddings


FIX = Fix(
    id="tied-embeddings-vpp",
    failure="A model with tied embeddings does not load on virtual pipeline stages.",
    fixed_since="0.6.0",
    modules=MappingProxyType(dict.fromkeys(MODULES, install)),
)

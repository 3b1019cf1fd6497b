"""Fix ``fresh-index``: a folder that was written anew is read by its new index.

``SafeTensorsStateSource`` keeps the index of every path as long as the process lives. Where a trainer writes
each checkpoint into the same folder, with experts in another layout or with MTP, a new bridge looks for the
keys of the first: it misses those that came, with a warning each, and fails at those that went.
"""

from collections.abc import Callable
from types import MappingProxyType, ModuleType

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import installed


def install(module: ModuleType) -> Callable[[], None]:
    """Let every reader read the index once itself, by upstream's own function.

    Args:
        module: The imported ``megatron.bridge.models.hf_pretrained.state``.

    Returns:
        What puts the class back as it was.
    """
    reader = module.SafeTensorsStateSource
    upstream = reader._cached_get_key_to_filename_map.__wrapped__
    return installed(reader, _cached_get_key_to_filename_map=staticmethod(upstream))


FIX = Fix(
    id="fresh-index",
    failure="A folder that is written anew while the process lives is read by its old index.",
    fixed_since=None,
    modules=MappingProxyType({"megatron.bridge.models.hf_pretrained.state": install}),
)

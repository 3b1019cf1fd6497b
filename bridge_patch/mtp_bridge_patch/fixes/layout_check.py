"""Fix ``mtp-layout-check``: a checkpoint that contradicts itself is refused before anything is loaded.

No release looks at more than one key of the MTP experts. Both layouts in one checkpoint, an expert missing,
half of a packed pair, or a config that declares other experts or MTP layers than there are, all load without
an error, at best with a warning, and leave parameters as they were initialized.
"""

from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import MODULES, wrap
from mtp_checkpoint.inspection.inspection import inspect

# Where a bridge is given a checkpoint to load.
_LOADERS = ("load_weights_hf_to_megatron", "stream_weights_hf_to_megatron")


def install(module: ModuleType) -> Callable[[], None]:
    """Let the bridges of a module look at the whole checkpoint before they load it, signatures kept.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    return wrap(module, dict.fromkeys(_LOADERS, _checked))


def _checked(load: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, hf_pretrained: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(hf_pretrained, "state"):  # else there is a config alone, and nothing to load
            inspect(hf_pretrained).require_consistent()
        return load(self, hf_pretrained, *args, **kwargs)

    return checked


FIX = Fix(
    id="mtp-layout-check",
    failure="Mixed or partial layouts, and experts or MTP layers other than declared, load with no error.",
    fixed_since=None,
    modules=MappingProxyType(dict.fromkeys(MODULES, install)),
)

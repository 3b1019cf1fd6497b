"""Fix ``contiguous-save``: tensors are exported contiguous, so that a folder of a small model can be saved.

With as many value heads as key heads (0.8B, 2B), 0.4.x and 0.5.x export views of one tensor
(``_split_gdn_grouped_to_separate``), which safetensors refuses to save.
"""

from collections.abc import Callable, Iterator
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import MODULES
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.exports import change_exports


def install(module: ModuleType) -> Callable[[], None]:
    """Change the bridges of a module.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    return change_exports(module, _contiguous, keep_asked_dtype=False)


def _contiguous(name: str, tensor: Any, _conversion: Conversion) -> Iterator[tuple[str, Any]]:
    yield name, tensor.contiguous()


FIX = Fix(
    id="contiguous-save",
    failure="Saving a model with as many value heads as key heads (0.8B, 2B) crashes.",
    fixed_since="0.6.0",
    modules=MappingProxyType(dict.fromkeys(MODULES, install)),
)

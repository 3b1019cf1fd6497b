"""Fix ``contiguous-save``: tensors are exported contiguous, so that a folder of a small model can be saved.

With as many value heads as key heads (0.8B, 2B), 0.4.x and 0.5.x export views of one tensor
(``_split_gdn_grouped_to_separate``), which safetensors refuses to save.
"""

from collections.abc import Iterator
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Export


def _contiguous(name: str, tensor: Any, _export: Export) -> Iterator[tuple[str, Any]]:
    yield name, tensor.contiguous()


FIX = Fix(
    id="contiguous-save",
    failure="Saving a model with as many value heads as key heads (0.8B, 2B) crashes.",
    fixed_since="0.6.0",
    export=_contiguous,
)

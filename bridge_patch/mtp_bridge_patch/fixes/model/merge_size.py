"""Fix ``merge-size``: images and videos get positions by the checkpoint's ``spatial_merge_size``.

The vision tower has the checkpoint's, but the language model's positions of an image are computed by a field
of the provider that upstream leaves at 2 (``qwen_vl/modelling_qwen3_vl/model.py``, ``get_rope_index``).
"""

from typing import Any

from mtp_bridge_patch.fix import Fix


def _provider(provider: Any, config: Any) -> Any:
    size = getattr(getattr(config, "vision_config", None), "spatial_merge_size", None)
    if size is not None and hasattr(provider, "spatial_merge_size"):
        provider.spatial_merge_size = size
    return provider


FIX = Fix(
    id="merge-size",
    failure="Images of a model that merges other than 2 x 2 patches have wrong positions, without a word.",
    fixed_since=None,
    provider=_provider,
)

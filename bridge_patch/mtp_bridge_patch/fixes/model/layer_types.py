"""Fix ``layer-types``: a decoder has the layers that the checkpoint says, one by one.

0.4.x and 0.5.x take ``full_attention_interval``, and let every layer of that number have full attention. A
checkpoint from which layers were pruned has that field still; its ``layer_types`` say which layers are left.
Where both say the same, the interval stays, so that whoever builds a model of fewer layers still can.
"""

from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_checkpoint.layouts.attention import FULL_ATTENTION, LINEAR_ATTENTION, layer_types

_IS_LINEAR = {LINEAR_ATTENTION: 1, FULL_ATTENTION: 0}


def _provider(provider: Any, config: Any) -> Any:
    types = getattr(getattr(config, "text_config", config), "layer_types", None) or ()
    linear = [_IS_LINEAR[name] for name in types]
    if tuple(types) != layer_types(len(types), provider.linear_attention_freq):
        provider.linear_attention_freq = linear
    return provider


FIX = Fix(
    id="layer-types",
    failure="Layers are linear or full by `full_attention_interval`, whatever `layer_types` says of them.",
    fixed_since="0.6.0",
    provider=_provider,
)

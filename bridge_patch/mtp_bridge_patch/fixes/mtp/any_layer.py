"""Fix ``mtp-any-layer``: every MTP layer has mappings, not layer 0 alone.

Upstream writes ``mtp.layers.0`` out. A model with more MTP layers ends in ``AttributeError: 'NoneType' object
has no attribute 'megatron_module'``, for the parameters of layer 1 have no mapping.

Hugging Face's format has one ``mtp.fc``, two norms before it and one after, whatever the number of layers;
Megatron-Core gives each layer its own (``MultiTokenPredictionLayer``). They are loaded into each layer, and
exported from layer 0 if all layers still agree.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from mtp_bridge_patch.errors import SharedWeightsError
from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.mappings import changed_keys, keys_of, specialized

_FIRST = "mtp.layers.0."
_EVERY = "mtp.layers.*."


def _every_layer(mappings: Iterable[Any], _conversion: Conversion) -> Iterator[Any]:
    exported: dict[str, Any] = {}
    for mapping in mappings:
        if _FIRST not in mapping.megatron_param:
            yield mapping
        elif all(_FIRST in key for key in keys_of(mapping)):
            yield _of_every_layer(mapping)
        else:  # the key names no layer; the first mapping that fits is taken
            yield _shared(mapping, exported, first=True)
            yield _shared(mapping, exported, first=False)


def _of_every_layer(mapping: Any) -> Any:
    every = copy.copy(mapping)
    every.megatron_param = mapping.megatron_param.replace(_FIRST, _EVERY)
    every.hf_param = changed_keys(mapping, lambda key: key.replace(_FIRST, _EVERY))
    return every


def _shared(mapping: Any, exported: dict[str, Any], *, first: bool) -> Any:
    """Return a mapping of layer 0, or of the others, of a weight that the checkpoint has once.

    Args:
        mapping: Upstream's, of layer 0.
        exported: What layer 0 exported, to compare the others with; it comes first.
        first: Whether it is layer 0's.
    """

    def make_class(upstream: Any) -> Any:
        class Shared(upstream):  # type: ignore[misc]
            def _validate_patterns(self) -> None:
                """Accept a wildcard on one side alone."""

            def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> Any:
                weights = super().megatron_to_hf(megatron_weights, megatron_module)  # collective
                if first:
                    exported.update(weights)
                    return weights
                for key, weight in weights.items():
                    if key in exported and not bool((weight == exported[key]).all()):
                        raise SharedWeightsError(
                            f"{self.megatron_param} is not equal to layer 0's, and the checkpoint has one "
                            f"{key}: train with the layers' copies tied, or export layer 0 alone"
                        )
                return {}

        return Shared

    shared = specialized(mapping, make_class)
    if not first:
        shared.megatron_param = mapping.megatron_param.replace(_FIRST, _EVERY)
    return shared


FIX = Fix(
    id="mtp-any-layer",
    failure="Layers of MTP after the first have no mapping: the load crashes.",
    fixed_since=None,
    mappings=_every_layer,
)

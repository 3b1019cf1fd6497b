"""Fix ``padded-vocabulary``: rows that Megatron-Core adds to a vocabulary are made on load, cut on export.

With ``should_pad_vocab`` embedding and output layer have more rows than the checkpoint's tensors. Upstream
pads where it splits a tensor over tensor-parallel ranks (``ColumnParallelMapping.hf_to_megatron``): not on a
single rank, where the load crashes, and not for a vision-language model, whose names an assertion does not
know. It exports the added rows.
"""

from collections.abc import Iterator
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.mappings import specialized

_OF_VOCABULARY = ("embedding.word_embeddings.weight", "output_layer.weight")


def _with_padding(mappings: list[Any], conversion: Conversion) -> Iterator[Any]:
    size = getattr(conversion.model_config, "vocab_size", None)  # without padding
    for mapping in mappings:
        is_of_vocabulary = mapping.megatron_param.endswith(_OF_VOCABULARY)
        yield _padded(mapping, size) if size is not None and is_of_vocabulary else mapping


def _padded(mapping: Any, size: int) -> Any:
    """Return a mapping of a tensor [vocabulary, hidden] of which the checkpoint has the first `size` rows."""

    def make_class(upstream: Any) -> Any:
        class Padded(upstream):  # type: ignore[misc]
            def hf_to_megatron(self, hf_weights: Any, megatron_module: Any) -> Any:
                added = megatron_module.weight.shape[0] * self.tp_size - len(hf_weights)
                if added > 0:
                    import torch

                    hf_weights = torch.nn.functional.pad(hf_weights, (0, 0, 0, added))  # zeros, as upstream
                return super().hf_to_megatron(hf_weights, megatron_module)

            def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> Any:
                weights = super().megatron_to_hf(megatron_weights, megatron_module)
                return {key: weight[:size] for key, weight in weights.items()}

        return Padded

    return specialized(mapping, make_class)


FIX = Fix(
    id="padded-vocabulary",
    failure="A model with a padded vocabulary does not load, or exports the padding.",
    fixed_since=None,
    mappings=_with_padding,
)

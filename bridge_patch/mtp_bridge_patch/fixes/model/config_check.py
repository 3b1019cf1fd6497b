"""Fix ``config-check``: a checkpoint whose ``config.json`` asks for what its model cannot be is refused.

Biases of attention: Megatron-Core has them for query, key and value, but no mapping leads to them, and the
bridge dies of it; a bias of ``o_proj`` alone it does not have. Activations: upstream takes ``hidden_act`` for
the gated delta net too, which transformers computes with SiLU whatever the field says, and does not look at
the vision tower's. Tied embeddings: upstream ties them whatever ``lm_head.weight`` the files hold, and
exports the embedding in its place; transformers takes the files' own.
"""

from typing import Any

from mtp_bridge_patch.errors import UnsupportedConfigError
from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_checkpoint.layouts.keys import EMBEDDING, HEAD, TEXT_ONLY_PREFIX, TEXT_PREFIX

_ACTIVATION, _OF_VISION = "silu", "gelu_pytorch_tanh"


def _provider(provider: Any, config: Any) -> Any:
    text, vision = getattr(config, "text_config", config), getattr(config, "vision_config", None)
    for part, name, only in (
        (text, "hidden_act", _ACTIVATION),
        (vision, "vision_config.hidden_act", _OF_VISION),
    ):
        asked = getattr(part, "hidden_act", only)
        if asked != only:
            raise UnsupportedConfigError(
                f"config.json asks for {name} {asked!r}, and Megatron-Bridge can compute {only} alone."
            )
    if getattr(text, "attention_bias", False):
        raise UnsupportedConfigError(
            "config.json asks for attention_bias, and no release of Megatron-Bridge can carry the biases of "
            "q_proj, k_proj, v_proj and o_proj."
        )
    return provider


def _check(conversion: Conversion) -> None:
    """Compare an output layer that is to be the embedding with it; both are read only if both are there."""
    if not getattr(conversion.model_config, "share_embeddings_and_output_weights", False):
        return
    keys = conversion.source.get_all_keys()
    both = [key for key in (HEAD, TEXT_PREFIX + EMBEDDING, TEXT_ONLY_PREFIX + EMBEDDING) if key in keys]
    if HEAD not in both or len(both) != 2:
        return
    found = conversion.source.load_tensors(both)
    head, embedding = (found[key] for key in both)
    if head.shape != embedding.shape or not (head == embedding).all():
        raise UnsupportedConfigError(
            f"config.json asks for tie_word_embeddings, but {HEAD} is another tensor than {both[1]}: "
            "leave it out, or set tie_word_embeddings to false."
        )


FIX = Fix(
    id="config-check",
    failure="Attention biases crash the load; other activations, and an lm_head that is tied, are lost.",
    fixed_since=None,
    provider=_provider,
    check=_check,
)

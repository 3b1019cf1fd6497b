"""A checkpoint whose config.json asks for what its model cannot be is refused, in one sentence."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mtp_bridge_patch
from mtp_bridge_patch import UnsupportedConfigError

BRIDGES = ("Qwen35VLBridge", "Qwen35VLMoEBridge")
HEAD = "lm_head.weight"
EMBEDDINGS = ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight")
Weight = NDArray[np.float32]


def weight(*values: float) -> Weight:
    return np.array(values, dtype=np.float32)


@pytest.fixture(params=BRIDGES)
def bridge(patched_module: Callable[[str], ModuleType], request: pytest.FixtureRequest) -> Any:
    return getattr(patched_module("config-check"), request.param)()


def of_config(bridge: Any, config: SimpleNamespace) -> Any:
    return bridge.provider_bridge(SimpleNamespace(config=config))


def load(
    bridge: Any, make_chunk: Callable[..., Any], tensors: dict[str, Weight], *, tied: bool = True
) -> list[str]:
    """Load, and return the keys that were read."""
    read: list[str] = []

    def load_tensors(keys: list[str]) -> dict[str, Weight]:
        read.extend(keys)
        return {key: tensors[key] for key in keys}

    source = SimpleNamespace(get_all_keys=lambda: list(tensors), load_tensors=load_tensors)
    chunk = make_chunk(share_embeddings_and_output_weights=tied)
    bridge.load_weights_hf_to_megatron(SimpleNamespace(state=SimpleNamespace(source=source)), [chunk])
    return read


@pytest.mark.parametrize("text_only", [False, True])
def test_attention_bias_is_refused_by_its_name(bridge: Any, text_only: bool) -> None:
    def config(**fields: Any) -> SimpleNamespace:
        text = SimpleNamespace(**fields)
        return text if text_only else SimpleNamespace(text_config=text)

    for accepted in (config(), config(attention_bias=False), config(attention_bias=None)):
        assert of_config(bridge, accepted) is accepted
    with pytest.raises(
        UnsupportedConfigError, match=r"^config\.json asks for attention_bias, and [^.]* o_proj\.$"
    ):
        of_config(bridge, config(attention_bias=True))
    mtp_bridge_patch.revert()
    refused = config(attention_bias=True)
    assert of_config(bridge, refused) is refused


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("head", [weight(1.0, 3.0), weight(1.0), weight(1.0, 2.0)[None]])
def test_head_other_than_the_embedding_that_it_is_tied_to_is_refused(
    bridge: Any, chunk: Callable[..., Any], embedding: str, head: Weight
) -> None:
    tensors = {embedding: weight(1.0, 2.0), HEAD: head}
    with pytest.raises(
        UnsupportedConfigError, match=f"asks for tie_word_embeddings, but {HEAD} .* {embedding}"
    ):
        load(bridge, chunk, tensors)
    assert load(bridge, chunk, tensors, tied=False) == []
    mtp_bridge_patch.revert()
    assert load(bridge, chunk, tensors) == []


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_head_that_is_the_embedding_is_taken(bridge: Any, chunk: Callable[..., Any], embedding: str) -> None:
    tensors = {HEAD: weight(1.0, 2.0), embedding: weight(1.0, 2.0)}
    assert load(bridge, chunk, tensors) == [HEAD, embedding]


@pytest.mark.parametrize("names", [(), (HEAD,), EMBEDDINGS[:1], EMBEDDINGS[1:], EMBEDDINGS])
def test_nothing_is_read_where_there_are_not_both(
    bridge: Any, chunk: Callable[..., Any], names: tuple[str, ...]
) -> None:
    assert load(bridge, chunk, dict.fromkeys(names, weight(1.0))) == []


@pytest.mark.parametrize("text_only", [False, True])
def test_activation_other_than_the_familys_is_refused_by_its_name(bridge: Any, text_only: bool) -> None:
    def config(activation: str, vision: str) -> SimpleNamespace:
        text = SimpleNamespace(hidden_act=activation)
        seen = SimpleNamespace(hidden_act=vision)
        return text if text_only else SimpleNamespace(text_config=text, vision_config=seen)

    accepted = config("silu", "gelu_pytorch_tanh")
    assert of_config(bridge, accepted) is accepted
    with pytest.raises(UnsupportedConfigError, match=r"asks for hidden_act 'gelu', and .* silu alone"):
        of_config(bridge, config("gelu", "gelu_pytorch_tanh"))
    if not text_only:
        with pytest.raises(UnsupportedConfigError, match=r"asks for vision_config\.hidden_act 'relu', and"):
            of_config(bridge, config("silu", "relu"))

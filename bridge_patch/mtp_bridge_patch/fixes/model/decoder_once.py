"""Fix ``decoder-once``: a rank has its decoder layers in memory once while a model is built.

``Qwen3VLGPTModel`` has ``GPTModel`` build a decoder, and then puts one of a class of its own in its place:
until that one is whole, both are in memory. Here the first is an empty module, which keeps the decoder's
place among the model's modules; until then nothing looks into it. Where parameters are drawn at random, and
not loaded, they are others for the same seed.
"""

import functools
from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.replacing import installed, replaced


def install(module: ModuleType) -> Callable[[], None]:
    """Have vision-language models build one decoder.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.text_model``.

    Returns:
        What puts the module back as it was.
    """
    return installed(module.Qwen3VLGPTModel, __init__=_building_once(module.Qwen3VLGPTModel.__init__))


def _building_once(upstream: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(upstream)
    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        from megatron.core.models.gpt import gpt_model

        with replaced(gpt_model, "TransformerBlock", _no_layers):
            upstream(self, *args, **kwargs)

    return build


def _no_layers(**_arguments: Any) -> Any:
    import torch

    return torch.nn.Module()


FIX = Fix(
    id="decoder-once",
    failure="A rank takes the memory of its decoder layers twice while a model is built.",
    fixed_since=None,
    modules=MappingProxyType({"megatron.bridge.models.qwen_vl.modelling_qwen3_vl.text_model": install}),
)

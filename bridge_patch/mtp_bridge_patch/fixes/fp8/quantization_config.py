"""What the config of a saved folder says of quantization; part of ``fp8-per-expert``.

It is FP8 where the weights are: not if they were asked for in another dtype (``weight_dtype``, of 0.6.x), nor
if there is no checkpoint at hand, and so no scales.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from mtp_bridge_patch.upstream.bridges import replace

_NAME = "quantization_config"
_ARCHITECTURES = ("Qwen3_5",)


def install_artifacts(module: ModuleType) -> Callable[[], None]:
    """Keep `quantization_config` in the saved config and in the live one; upstream deletes it from both.

    Args:
        module: The imported ``megatron.bridge.models.hf_pretrained.base``.

    Returns:
        What puts the class back as it was.
    """
    upstream = module.PreTrainedBase.save_artifacts

    @functools.wraps(upstream)
    def save_artifacts(self: Any, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        quantization = getattr(self.config, _NAME, None)
        result = upstream(self, save_directory, *args, **kwargs)
        architectures = getattr(self.config, "architectures", None) or ("",)
        if quantization is not None and architectures[0].startswith(_ARCHITECTURES):
            setattr(self.config, _NAME, quantization)
            self.config.save_pretrained(save_directory)
        return result

    return replace(module.PreTrainedBase, "save_artifacts", save_artifacts)


def install_save(module: ModuleType) -> Callable[[], None]:
    """Save no `quantization_config` beside weights that are not quantized.

    Args:
        module: The imported ``megatron.bridge.models.conversion.auto_bridge``.

    Returns:
        What puts the class back as it was.
    """
    upstream = module.AutoBridge.save_hf_pretrained
    signature = inspect.signature(upstream)

    @functools.wraps(upstream)
    def save_hf_pretrained(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = signature.bind(self, *args, **kwargs).arguments.get("weight_dtype")
        if asked is None and hasattr(self.hf_pretrained, "state"):
            return upstream(self, *args, **kwargs)
        with unquantized(getattr(self.hf_pretrained, "config", self.hf_pretrained)):
            return upstream(self, *args, **kwargs)

    return replace(module.AutoBridge, "save_hf_pretrained", save_hf_pretrained)


@contextmanager
def unquantized(config: Any) -> Iterator[None]:
    """Take `quantization_config` out of a config, inside a ``with`` block."""
    quantization = getattr(config, _NAME, None)
    if quantization is not None:
        delattr(config, _NAME)
    try:
        yield
    finally:
        if quantization is not None:
            setattr(config, _NAME, quantization)

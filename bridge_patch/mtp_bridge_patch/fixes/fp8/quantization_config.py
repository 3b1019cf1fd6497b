"""What the config of a saved folder says of quantization; part of ``fp8-per-expert``.

It is FP8 where the weights are: not if they were asked for in another dtype (``weight_dtype``, of 0.6.x), nor
if there is no checkpoint at hand, and so no scales.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mtp_bridge_patch.upstream.hooks import Save

_NAME = "quantization_config"


def save(call: Save, proceed: Callable[[], Any]) -> Any:
    """Save no `quantization_config` beside weights that are not quantized."""
    if call.arguments.get("weight_dtype") is None and hasattr(call.pretrained, "state"):
        return proceed()
    with unquantized(call.config):
        return proceed()


def save_artifacts(call: Save, proceed: Callable[[], Any]) -> Any:
    """Keep `quantization_config` in the saved config and in the live one; upstream deletes it from both."""
    quantization = getattr(call.config, _NAME, None)
    result = proceed()
    if quantization is not None:
        setattr(call.config, _NAME, quantization)
        call.config.save_pretrained(call.arguments["save_directory"])
    return result


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

"""How a fix changes the tensors that a bridge exports, one by one."""

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from mtp_bridge_patch.upstream.bridges import Method, wrap
from mtp_bridge_patch.upstream.conversion import Conversion, begin

Change = Callable[[str, Any, Conversion], Iterator[tuple[str, Any]]]
"""Yields what to export instead of one tensor: names and tensors."""


def change_exports(
    module: ModuleType, change: Change, *, keep_asked_dtype: bool = True
) -> Callable[[], None]:
    """Change what every bridge of a module exports.

    Args:
        module: An imported module of bridges.
        change: What changes a tensor.
        keep_asked_dtype: Leave an export alone that was asked for in a dtype (`weight_dtype`, of 0.6.x).

    Returns:
        What puts the classes back as they were.
    """

    def stream(upstream: Method) -> Method:
        signature = inspect.signature(upstream)

        def stream_weights_megatron_to_hf(
            self: Any, megatron_model: Any, hf_pretrained: Any, *args: Any, **kwargs: Any
        ) -> Iterator[Any]:
            asked = signature.bind(self, megatron_model, hf_pretrained, *args, **kwargs).arguments
            exported = upstream(self, megatron_model, hf_pretrained, *args, **kwargs)
            if keep_asked_dtype and asked.get("weight_dtype") is not None:
                yield from exported
                return
            conversion = begin(self, hf_pretrained, megatron_model)
            for pair in exported:
                kind: Any = type(pair)  # upstream's named tuple
                exported_name, exported_tensor = pair
                for name, tensor in change(exported_name, exported_tensor, conversion):
                    yield kind(name, tensor)

        return stream_weights_megatron_to_hf

    return wrap(module, {"stream_weights_megatron_to_hf": stream})

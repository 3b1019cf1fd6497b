"""Fix ``dtype-preserving-export``: tensors come back in the dtype of the checkpoint.

Megatron-Core holds every parameter in one dtype, BF16, and upstream exports them so; Qwen3.5 stores ``A_log``
and ``linear_attn.norm.weight`` in F32. What BF16 holds comes back exact: every F32 number that is a BF16
number, and for the norm, of which Megatron-Core holds w - 1, every w of which w - 1 is one. Upstream adds the
1 in BF16, which rounds once more; here it is added in F32.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import MODULES, param_mapping
from mtp_bridge_patch.upstream.conversion import Conversion, rewrite_mappings
from mtp_bridge_patch.upstream.exports import change_exports

_TORCH_NAMES = MappingProxyType({"F32": "float32", "BF16": "bfloat16", "F16": "float16"})
"""Names of the dtypes that an export is cast to, as safetensors and torch spell them."""


def install(module: ModuleType) -> Callable[[], None]:
    """Change the bridges of a module.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    undo = ExitStack()
    undo.callback(rewrite_mappings(module, _exact_norms))
    undo.callback(change_exports(module, _as_stored))
    return undo.close


def _exact_norms(mappings: list[Any], _conversion: Conversion) -> Iterator[Any]:
    classes = param_mapping()
    upstream: Any = classes.RMSNorm2ZeroCenteredRMSNormMapping

    class ExactNormMapping(upstream):  # type: ignore[misc]
        def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> Any:
            weights = classes.AutoMapping.megatron_to_hf(self, megatron_weights, megatron_module)
            return {key: weight.float() + 1 for key, weight in weights.items()}

    for mapping in mappings:
        if type(mapping) is upstream:
            mapping = copy.copy(mapping)
            mapping.__class__ = ExactNormMapping
        yield mapping


def _as_stored(name: str, tensor: Any, conversion: Conversion) -> Iterator[tuple[str, Any]]:
    import torch

    stored = conversion.stored.get(name)
    held = getattr(conversion.model_config, "params_dtype", None) or torch.bfloat16
    if not tensor.is_floating_point():
        dtype = tensor.dtype
    elif stored is not None and stored.dtype in _TORCH_NAMES:
        dtype = getattr(torch, _TORCH_NAMES[stored.dtype])
    else:
        dtype = torch.float32 if name in conversion.float32 else held
    yield name, tensor.to(dtype)


FIX = Fix(
    id="dtype-preserving-export",
    failure="F32 tensors (A_log and linear_attn.norm.weight of Qwen3.5) come back in BF16.",
    fixed_since=None,
    modules=MappingProxyType(dict.fromkeys(MODULES, install)),
)

"""Fix ``dtype-preserving-export``: tensors come back in the dtype of the checkpoint.

Megatron-Core holds every parameter in one dtype, BF16, and upstream exports them so; Qwen3.5 stores ``A_log``
and ``linear_attn.norm.weight`` in F32. What BF16 holds comes back exact: every F32 number that is a BF16
number, and for the norm, of which Megatron-Core holds w - 1, every w of which w - 1 is one. Upstream adds the
1 in BF16, which rounds once more; here it is added in F32.
"""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.hooks import Export
from mtp_bridge_patch.upstream.mappings import param_mapping, specialized

_TORCH_NAMES = MappingProxyType({"F32": "float32", "BF16": "bfloat16", "F16": "float16"})
"""Names of the dtypes that an export is cast to, as safetensors and torch spell them."""


def _exact_norms(mappings: list[Any], _conversion: Conversion) -> Iterator[Any]:
    upstream: Any = param_mapping().RMSNorm2ZeroCenteredRMSNormMapping
    for mapping in mappings:
        yield specialized(mapping, _exact_norm) if type(mapping) is upstream else mapping


def _exact_norm(upstream: Any) -> Any:
    auto_mapping = param_mapping().AutoMapping

    class ExactNormMapping(upstream):  # type: ignore[misc]
        def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> Any:
            weights = auto_mapping.megatron_to_hf(self, megatron_weights, megatron_module)
            return {key: weight.float() + 1 for key, weight in weights.items()}

    return ExactNormMapping


def _as_stored(name: str, tensor: Any, export: Export) -> Iterator[tuple[str, Any]]:
    if export.weight_dtype is not None:
        yield name, tensor
        return
    import torch

    conversion = export.conversion
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
    mappings=_exact_norms,
    export=_as_stored,
)

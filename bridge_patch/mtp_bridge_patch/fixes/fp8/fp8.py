"""Fix ``fp8-per-expert``: FP8 checkpoints are loaded by their scales, and exported as FP8.

Upstream's Qwen3.5 bridges know of no scales. It copies E4M3 numbers into the experts as they are, without a
warning, and crashes where it joins an FP8 weight with a BF16 one. The rule is that of the published releases,
which upstream has for other models (``maybe_dequantize_fp8_blockwise``): a weight is its E4M3 number times
the number that ``weight_scale_inv`` has for its block of 128 x 128.

On export a weight is divided by the checkpoint's scale, which gives an unchanged weight its bytes back; a
block that has grown beyond E4M3's range gets a new scale. Weights are exported in BF16 instead if they are
asked for in a dtype (``weight_dtype``, of 0.6.x; saving a folder then needs ``strict=False``, for upstream
misses the scales), or if there is no checkpoint at hand.
"""

from collections.abc import Iterator
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.fixes.fp8.quantization_config import save, save_artifacts
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.hooks import Export
from mtp_checkpoint.errors import LayoutError
from mtp_checkpoint.layouts.expert_layout import FP8_BLOCK as BLOCK
from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX, scale_shape
from mtp_checkpoint.messages import listed

_LARGEST = 448.0  # of E4M3


def _require_scales(conversion: Conversion) -> None:
    """Look for every scale before anything is loaded.

    Raises:
        LayoutError: Scales are missing, or are not one number a block; lists all.
    """
    missing, other = [], []
    for name, tensor in conversion.stored.items():
        if tensor.dtype != "F8_E4M3":
            continue
        scale = conversion.stored.get(name + SCALE_SUFFIX)
        if scale is None:
            missing.append(name + SCALE_SUFFIX)
        elif scale.shape != scale_shape(tensor.shape):
            other.append(name + SCALE_SUFFIX)
    problems = [f"scales missing: {listed(missing)}"] if missing else []
    if other:
        problems.append(f"scales that are not one for each block of {BLOCK} x {BLOCK}: {listed(other)}")
    if problems:
        raise LayoutError(str(getattr(conversion.source, "path", "the checkpoint")), problems)


def _dequantize(weight: Any, key: str, state: Any) -> Any:
    """Return [rows, columns] in BF16; what is not E4M3 is returned as it is."""
    import torch

    if getattr(weight, "dtype", None) != torch.float8_e4m3fn:
        return weight
    scales = _expanded(state[key + SCALE_SUFFIX], weight)
    return (weight.float() * scales).to(torch.bfloat16)


def _quantized(name: str, tensor: Any, export: Export) -> Iterator[tuple[str, Any]]:
    conversion = export.conversion
    stored = None if export.weight_dtype is not None else conversion.stored.get(name)
    if stored is None or stored.dtype != "F8_E4M3":
        yield name, tensor
        return
    import torch

    key = name + SCALE_SUFFIX
    scale = conversion.source.load_tensors([key])[key].to(tensor.device)
    scale = _grown(scale, tensor)
    weight = (tensor.float() / _expanded(scale, tensor)).clamp(-_LARGEST, _LARGEST)
    yield name, weight.to(torch.float8_e4m3fn)
    yield key, scale


def _grown(scale: Any, weight: Any) -> Any:
    """Return the scales, [blocks, blocks], larger where a weight over its scale is beyond E4M3."""
    import torch

    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float().abs(), (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = padded.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).amax(dim=(1, 3))
    # An unchanged weight is the rounded product, up to half a BF16 step beyond the range: no new scale.
    beyond = blocks > scale.float() * _LARGEST * (1 + 2**-8)
    return torch.where(beyond, blocks / _LARGEST, scale.float()).to(scale.dtype)


def _expanded(scale: Any, weight: Any) -> Any:
    """Return a scale for each weight, F32[rows, columns]."""
    rows, columns = weight.shape
    return (
        scale.float()
        .repeat_interleave(BLOCK, 0)[:rows]
        .repeat_interleave(BLOCK, 1)[:, :columns]
        .to(weight.device)
    )


FIX = Fix(
    id="fp8-per-expert",
    failure="FP8 weights are loaded without their scales, silently, or the load crashes.",
    fixed_since=None,
    check=_require_scales,
    loaded=_dequantize,
    export=_quantized,
    save=save,
    save_artifacts=save_artifacts,
)

"""What a bridge may lose of a tensor's values: taken through a narrower format and back, or computed with."""

from collections.abc import Callable

import torch

Change = Callable[[torch.Tensor], torch.Tensor]


def fp16(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().to(tensor.dtype)


def fp8(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float8_e4m3fn).to(tensor.dtype)


def bf16(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16()


def tf32(tensor: torch.Tensor) -> torch.Tensor:
    """Round to 11 significant bits, to nearest, ties to even."""
    bits = tensor.float().view(torch.int32)
    rounded = (bits + 0xFFF + (bits >> 13 & 1) & ~0x1FFF).view(torch.float32).to(tensor.dtype)
    return torch.where(tensor.isfinite(), rounded, tensor)


def without_denormals(tensor: torch.Tensor) -> torch.Tensor:
    """Flush to zero, as hardware does: the sign stays."""
    return torch.where(tensor.abs() < torch.finfo(tensor.dtype).smallest_normal, tensor * 0, tensor)


def without_sign_of_zero(tensor: torch.Tensor) -> torch.Tensor:
    return torch.where(tensor == 0, 0, tensor)


def without_nan_payload(tensor: torch.Tensor) -> torch.Tensor:
    return torch.where(tensor.isnan(), torch.nan, tensor)


CHANGES: dict[str, Change] = {
    "Fp16": fp16,
    "Fp8": fp8,
    "Bf16": bf16,
    "Tf32": tf32,
    "WithoutDenormals": without_denormals,
    "WithoutSignOfZero": without_sign_of_zero,
    "WithoutNanPayload": without_nan_payload,
}

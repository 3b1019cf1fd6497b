"""CUDA answered by the CPU: inside the block alone, whatever happens in it."""

import pytest
import torch

from mtp_regression.megatron.cpu import cuda_on_cpu

REAL = {name: getattr(torch.cuda, name) for name in ("is_available", "current_device", "Stream")}


def test_gpu_is_answered_by_the_cpu() -> None:
    with cuda_on_cpu():
        assert torch.cuda.is_available()
        assert torch.cuda.get_device_capability() == (9, 0)
        assert torch.cuda.Stream() is None
        tensors = [
            torch.empty(2, device="cuda"),
            torch.empty(2, device=torch.cuda.current_device()),
            torch.zeros(2, device=torch.device("cuda", 0)),
            torch.ones(2).cuda(),
            torch.ones(2).to("cuda"),
            torch.ones(2).to(device="cuda:0", dtype=torch.bfloat16),
            torch.ones(2).to(torch.device("cuda")),
            torch.tensor([1, 2], pin_memory=True),
        ]
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert tensors[5].dtype == torch.bfloat16
        assert torch.empty(2, device="meta").device.type == "meta"


def test_everything_is_restored_after_an_error() -> None:
    with pytest.raises(LookupError), cuda_on_cpu():
        raise LookupError
    assert {name: getattr(torch.cuda, name) for name in REAL} == REAL
    assert not torch.cuda.is_available()
    with pytest.raises((RuntimeError, AssertionError), match=r"CUDA|NVIDIA"):
        torch.empty(2, device="cuda")

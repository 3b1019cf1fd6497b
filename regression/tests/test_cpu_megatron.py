"""CUDA answered by the CPU: inside the block alone, whatever happens in it."""

import io
from collections.abc import Callable

import pytest
import torch

from mtp_regression.megatron.cpu import cuda_on_cpu, scripts_on_cpu

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


def test_a_script_is_answered_too() -> None:
    weights = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, weights)
    with scripts_on_cpu():
        torch.cuda.set_device(0)
        device = torch.device("cuda", torch.cuda.current_device())
        weights.seek(0)
        tensors = [
            torch.empty(2, device=device),
            torch.ones(2).to(torch.cuda.current_device()),
            torch.ones(2).pin_memory().cuda(0, non_blocking=True),
            torch.nn.Linear(2, 2).cuda().weight,
            torch.load(weights, map_location="cuda:0")["weight"],
        ]
        with torch.device("cuda"), torch.cuda.device(0), torch.cuda.stream(torch.cuda.Stream()):
            tensors.append(torch.empty(2))
        with torch.device("meta"):
            assert torch.empty(2).device.type == "meta"
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert isinstance(torch.cuda.current_stream(), torch.cuda.Stream)
        assert torch.cuda.Stream | None
        total = torch.cuda.get_device_properties(device).total_memory
        assert torch.cuda.mem_get_info() == (total, total)
        assert total > torch.cuda.memory_allocated() == torch.cuda.memory_stats()["active.all.peak"] == 0
    assert torch.cuda.get_device_properties.__module__ == "torch.cuda"
    assert torch.empty(2).device.type == "cpu"


@pytest.mark.parametrize("seed", [torch.manual_seed, torch.cuda.manual_seed, torch.cuda.manual_seed_all])
def test_random_states_are_the_cpus(seed: Callable[[int], object]) -> None:
    with torch.random.fork_rng(), scripts_on_cpu():
        getattr(torch if seed is torch.manual_seed else torch.cuda, seed.__name__)(7)
        state = torch.cuda.get_rng_state()
        first = torch.rand(3, device="cuda")
        torch.cuda.set_rng_state(state)
        assert torch.equal(torch.rand(3, device="cuda"), first)
        torch.manual_seed(7)
        assert torch.equal(torch.rand(3, device="cuda"), first)

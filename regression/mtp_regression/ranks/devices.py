"""The devices that ranks keep their tensors on, and the backends of torch.distributed for them."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """The device of a round trip.

    Attributes:
        CPU: Tensors on the CPU; gloo.
        CUDA: One GPU per rank; NCCL.
        CUDA_SHARED: Several ranks per GPU, assigned round-robin. NCCL refuses two ranks on one GPU, so gloo
            transfers the GPU's tensors.
    """

    CPU = "cpu"
    CUDA = "cuda"
    CUDA_SHARED = "cuda-shared"

    @property
    def backend(self) -> str:
        """The backend of torch.distributed: "nccl" or "gloo"."""
        return "nccl" if self is Device.CUDA else "gloo"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a rank: on the CPU, GPUs are hidden from torch and Megatron."""
        return {} if self.on_gpu else {"CUDA_VISIBLE_DEVICES": ""}

    @property
    def on_gpu(self) -> bool:
        """Whether parameters are on a GPU."""
        return self is not Device.CPU

"""Where ranks keep their tensors, and by which library they talk to each other."""

from __future__ import annotations

from enum import StrEnum


class Device(StrEnum):
    """What a round trip runs on.

    Attributes:
        CPU: Tensors in the machine's memory, gloo.
        CUDA: A GPU for each rank, NCCL.
        CUDA_SHARED: Ranks share the GPUs, in turns. NCCL refuses two ranks on one GPU, so gloo carries the
            GPU's tensors.
    """

    CPU = "cpu"
    CUDA = "cuda"
    CUDA_SHARED = "cuda-shared"

    @property
    def backend(self) -> str:
        """The backend of torch.distributed."""
        return "nccl" if self is Device.CUDA else "gloo"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a rank's process: on the CPU, torch and Megatron are to see no GPU."""
        return {} if self.on_gpu else {"CUDA_VISIBLE_DEVICES": ""}

    @property
    def on_gpu(self) -> bool:
        """Whether parameters are on a GPU."""
        return self is not Device.CPU

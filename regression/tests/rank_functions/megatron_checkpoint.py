"""A function that test_mtp_megatron_checkpoint has run on ranks."""

from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch

from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import RawTensor
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World

# What Megatron asks of CUDA while it saves and loads checkpoints, and what may be answered without it.
ANSWERS = {
    "get_rng_state": lambda *_args: torch.zeros(16, dtype=torch.uint8),
    "set_rng_state": lambda *_args: None,
    "synchronize": lambda *_args: None,
    "empty_cache": lambda: None,
}


def save_and_load(world: World, checkpoint: str, parallel: str, folder: str) -> dict[str, object]:
    """Load a checkpoint, save it as Megatron's, load that; say what differs and how much was compared."""
    del world
    # On the ranks alone: the imports warn, which a test run does not let pass.
    from megatron.core import parallel_state

    from mtp_regression.adapters.megatron_bridge import MegatronBridge
    from mtp_regression.megatron.cpu import cuda_on_cpu

    sizes = Parallel.parse(parallel)
    bridge = MegatronBridge()
    bridge.load(Path(checkpoint), sizes)
    before = {name: RawTensor.from_torch(parameter) for name, parameter in bridge.parameters()}
    with ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(cuda_on_cpu())
        bridge._auto.save_megatron_model(bridge._chunks, folder)
        parallel_state.destroy_model_parallel()
        bridge._chunks = bridge._auto.load_megatron_model(
            folder,
            mp_overrides={
                "tensor_model_parallel_size": sizes.tp,
                "pipeline_model_parallel_size": sizes.pp,
                "expert_model_parallel_size": sizes.ep,
                "expert_tensor_parallel_size": sizes.etp,
            },
            wrap_with_ddp=False,
        )
    after = {name: RawTensor.from_torch(parameter) for name, parameter in bridge.parameters()}
    bridge.close()
    findings = [f"{found.tensor}: {found.verdict} {found.detail}" for found in compare(before, after.items())]
    experts = sum(".mlp.experts." in name for name in after)
    return {"parameters": len(before), "experts": experts, "findings": findings}

"""Functions that test_mtp_megatron_record has run on ranks, each in processes of its own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from mtp_bridge_patch import applied, apply
from mtp_regression.adapters.using import Used
from mtp_regression.megatron.cpu import checkpointing_on_cpu
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def store(_world: World, checkpoint: str, parallel: str, folder: str, low_memory: bool) -> None:
    """Load a checkpoint with the patched bridge, and save it as Megatron's."""
    from mtp_regression.adapters.megatron_bridge import PatchedMegatronBridge

    bridge = Used(PatchedMegatronBridge())
    bridge.begin(Path(checkpoint), Parallel.parse(parallel))
    with checkpointing_on_cpu():
        bridge._auto.save_megatron_model(bridge.model, folder, low_memory_save=low_memory)
    bridge.close()


def export(_world: World, config: str, megatron: str, parallel: str, folder: str, again: str) -> list[str]:
    """Load a Megatron checkpoint with a config alone; save it for Hugging Face, and as Megatron's again.

    Args:
        config: A folder with `config.json`, and no weights.
        megatron: The folder of the Megatron checkpoint.
        parallel: The parallel layout.
        folder: Where to save for Hugging Face.
        again: Where to save as Megatron's.

    Returns:
        What the patch warned of.
    """
    # The fork server has imported the adapter, and with it the stand-in for TransformerEngine.
    from megatron.bridge import AutoBridge
    from megatron.core import parallel_state
    from transformers import AutoConfig

    assert not applied(), "a process of its own"
    apply()
    sizes = Parallel.parse(parallel)
    overrides = {
        "tensor_model_parallel_size": sizes.tp,
        "pipeline_model_parallel_size": sizes.pp,
        "expert_model_parallel_size": sizes.ep,
        "expert_tensor_parallel_size": sizes.etp,
    }
    parallel_state.initialize_model_parallel(**overrides)
    auto = AutoBridge.from_hf_config(AutoConfig.from_pretrained(config))
    with _warnings() as warnings, checkpointing_on_cpu():
        model = auto.load_megatron_model(megatron, mp_overrides=overrides)
        auto.save_hf_pretrained(model, folder, show_progress=False)
        auto.save_megatron_model(model, again)
    parallel_state.destroy_model_parallel()
    return [record.getMessage() for record in warnings]


def resume(_world: World, config: str, megatron: str, again: str) -> None:
    """Load a Megatron checkpoint as training does that goes on from it, and save it as training does.

    Args:
        config: A folder with `config.json`, and no weights.
        megatron: The folder of the Megatron checkpoint.
        again: Where to save.
    """
    from megatron.bridge import AutoBridge
    from megatron.bridge.training.checkpointing import load_checkpoint, save_checkpoint
    from megatron.bridge.training.config import CheckpointConfig, ConfigContainer, LoggerConfig
    from megatron.bridge.training.state import GlobalState
    from megatron.core import parallel_state
    from megatron.core.optimizer import OptimizerConfig
    from transformers import AutoConfig

    from mtp_regression.megatron import model as megatron_model

    apply()
    auto = AutoBridge.from_hf_config(AutoConfig.from_pretrained(config))
    megatron_model.initialize(Parallel())
    provider = megatron_model.provider(auto, Parallel(), lambda provider: setattr(provider, "bf16", True))
    not_wanted = ("async_save", "save_optim", "save_rng", "load_optim", "load_rng")
    checkpoint = CheckpointConfig(
        pretrained_checkpoint=megatron,
        save=again,
        ckpt_format="torch_dist",
        finetune=True,
        dist_ckpt_optim_fully_reshardable=True,
        **dict.fromkeys(not_wanted, False),
    )
    state = GlobalState()
    state.cfg = ConfigContainer(
        model=provider,
        checkpoint=checkpoint,
        optimizer=OptimizerConfig(use_distributed_optimizer=False),
        logger=LoggerConfig(),
        **dict.fromkeys(("train", "ddp", "scheduler", "dataset", "tokenizer", "dist")),
    )
    with checkpointing_on_cpu():
        model = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=True)
        load_checkpoint(state, model, None, None)
        save_checkpoint(
            state=state,
            model=model,
            optimizer=None,
            opt_param_scheduler=None,
            num_floating_point_operations_so_far=0,
            callback_manager=None,
        )
    parallel_state.destroy_model_parallel()


@contextmanager
def _warnings() -> Iterator[list[Any]]:
    handler = BufferingHandler(1000)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("mtp_bridge_patch")
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)

"""Builds a bridge's model on one rank.

To be imported after TransformerEngine or its stand-in has been (see `te_standin.install`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from megatron.core import parallel_state

from mtp_regression.ranks.parallel import Coordinates, Parallel


def sizes_and_cut(parallel: Parallel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a layout's sizes, and how its pipeline is cut, in the words of Megatron-Core's configuration."""
    sizes = {
        "tensor_model_parallel_size": parallel.tp,
        "pipeline_model_parallel_size": parallel.pp,
        "virtual_pipeline_model_parallel_size": parallel.vpp if parallel.vpp > 1 else None,
        "expert_model_parallel_size": parallel.ep,
        "expert_tensor_parallel_size": parallel.etp,
        "context_parallel_size": parallel.cp,
    }
    cut = {
        "num_layers_in_first_pipeline_stage": parallel.first or None,
        "num_layers_in_last_pipeline_stage": parallel.last or None,
        "account_for_embedding_in_pipeline_split": parallel.embedding,
        "account_for_loss_in_pipeline_split": parallel.loss,
        "pipeline_model_parallel_layout": parallel.layout or None,
    }
    return sizes, cut


FOR_A_CONVERSION: Mapping[str, Any] = {
    "params_dtype": torch.bfloat16,
    "pipeline_dtype": torch.bfloat16,
    # Needs a kernel of Apex or TransformerEngine, and matters to training alone.
    "gradient_accumulation_fusion": False,
    # As Megatron-Bridge itself does before it loads: every value comes from the checkpoint.
    "perform_initialization": False,
}
"""What a configuration of Megatron-Core needs where a model is built to be loaded, and not to be trained."""


def initialize(parallel: Parallel, *, gloo: bool = True) -> None:
    """Make this rank's model-parallel groups.

    Args:
        parallel: The parallel layout.
        gloo: Whether to make gloo groups as well, which fake process groups cannot have.
    """
    sizes, _ = sizes_and_cut(parallel)
    parallel_state.initialize_model_parallel(**sizes, create_gloo_process_groups=gloo)


def provider(
    auto: Any,
    parallel: Parallel,
    configure: Callable[[Any], None] | None = None,
) -> Any:
    """Make a bridge's model provider, with BF16 parameters.

    Args:
        auto: Megatron-Bridge's `AutoBridge` of a checkpoint.
        parallel: The parallel layout.
        configure: Is called with the provider, to change it before it is finalized.

    Returns:
        The provider. Its `provide_distributed_model` builds the model, with uninitialised parameters.
    """
    sizes, cut = sizes_and_cut(parallel)
    made = auto.to_megatron_provider(load_weights=False)
    for name, value in (sizes | cut).items():
        setattr(made, name, value)
    if configure is not None:
        configure(made)
    for name, value in FOR_A_CONVERSION.items():
        setattr(made, name, value)
    made.finalize()
    return made


@contextmanager
def nan_where_uninitialized() -> Iterator[None]:
    """Fill the memory of tensors that are made without values with NaN."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def coordinates() -> Coordinates:
    """Return this rank's place in the parallel layout, from Megatron-Core's parallel state."""
    return Coordinates(
        tp=parallel_state.get_tensor_model_parallel_rank(),
        pp=parallel_state.get_pipeline_model_parallel_rank(),
        ep=parallel_state.get_expert_model_parallel_rank(),
        etp=parallel_state.get_expert_tensor_parallel_rank(),
    )

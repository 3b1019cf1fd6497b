"""A forward pass of Megatron-Bridge's models on the CPU, over all ranks, without a pipeline schedule.

To be imported after TransformerEngine or its stand-in has been (see `te_standin.install`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.transformer.multi_token_prediction import process_mtp_loss
from torch import nn

from mtp_regression.megatron.computing import computing_on_cpu


def logits(chunks: Sequence[nn.Module], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute logits; called on every rank.

    Args:
        chunks: This rank's model chunks, in any floating dtype; computed is in float32.
        batch: `input_ids` [batch, sequence], int64, `attention_mask`, and what else the model's `forward`
            takes by name, such as `position_ids` or `pixel_values`.

    Returns:
        On the ranks of the pipeline's last stage "main" and, for each MTP layer, "mtp.{i}": float32, [batch,
        sequence, vocabulary], of all tensor-parallel ranks. On other ranks nothing.
    """
    heads = [head for chunk in chunks if (head := _output_layer(chunk)) is not None]
    with torch.no_grad(), computing_on_cpu(chunks), _outputs(heads) as found:
        _through_pipeline([_unwrapped(chunk) for chunk in chunks], batch)
    if not found:
        return {}
    *mtp, main = (_of_all_ranks(output).transpose(0, 1).contiguous() for output in found)
    return {"main": main} | {f"mtp.{number}": output for number, output in enumerate(mtp)}


def _through_pipeline(models: Sequence[nn.Module], batch: Mapping[str, torch.Tensor]) -> None:
    """Take a batch through the stages one after another, each on the rank that has it."""
    group = parallel_state.get_pipeline_model_parallel_group()
    ranks, own = dist.get_process_group_ranks(group), dist.get_rank(group)
    hidden: torch.Tensor | None = None
    for stage in range(len(ranks) * len(models)):
        before, rank = (stage - 1) % len(ranks), stage % len(ranks)
        if stage and before != rank:
            if own == before:
                _send(hidden, ranks[rank], group)
            if own == rank:
                hidden = _receive(ranks[before], group)
        if own == rank:
            hidden = _run(models[stage // len(ranks)], hidden if stage else None, batch)


def _run(model: nn.Module, hidden: torch.Tensor | None, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Run one stage; `hidden` is what the one before has given."""
    ids = batch["input_ids"]
    # Before 0.19 Megatron-Core computes MTP's logits for their loss alone; what the labels are is no matter.
    labels = None if "input_ids" in signature(process_mtp_loss).parameters else ids
    given: dict[str, Any] = {"position_ids": None, "labels": labels, **batch}
    given["attention_mask"] = _hidden(batch)
    if hasattr(model, "language_model"):  # vision-language: makes positions itself
        if hidden is not None:
            model.set_input_tensor([hidden])
    else:
        if given["position_ids"] is None:
            given["position_ids"] = torch.arange(ids.shape[1]).expand_as(ids).contiguous()
        if hidden is not None:
            model.set_input_tensor(hidden)
    return model(**given)


def _hidden(batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Return Megatron's mask, which is True where a token does not see another; None without padding.

    As `get_ltor_masks_and_position_ids` of Megatron-LM makes it: [batch, 1, sequence, sequence].
    """
    if "attention_mask" not in batch:
        return None
    real = batch["attention_mask"].bool()
    seen = real[:, None, None] & torch.ones(2 * real.shape[1:], dtype=torch.bool).tril()
    return ~seen


def _send(hidden: torch.Tensor | None, rank: int, group: Any) -> None:
    assert hidden is not None, "a stage that has run"
    dist.send(torch.tensor(hidden.shape), rank, group=group)
    dist.send(hidden.contiguous(), rank, group=group)


def _receive(rank: int, group: Any) -> torch.Tensor:
    shape = torch.empty(3, dtype=torch.int64)  # sequence (times 1 and MTP layers), batch, width
    dist.recv(shape, rank, group=group)
    hidden = torch.empty(*shape.tolist())
    dist.recv(hidden, rank, group=group)
    return hidden


def _unwrapped(chunk: nn.Module) -> nn.Module:
    """Return the model itself, which does not cast its input."""
    while hasattr(chunk, "module"):
        chunk = chunk.module
    return chunk


def _output_layer(chunk: nn.Module) -> nn.Module | None:
    model = _unwrapped(chunk)
    language = getattr(model, "language_model", model)
    return language.output_layer if getattr(language, "post_process", False) else None


def _of_all_ranks(part: torch.Tensor) -> torch.Tensor:
    """Put the tensor-parallel ranks' parts of the vocabulary side by side."""
    group = parallel_state.get_tensor_model_parallel_group()
    parts = [torch.empty_like(part) for _ in range(group.size())]
    dist.all_gather(parts, part.contiguous(), group=group)
    return torch.cat(parts, dim=-1)


@contextmanager
def _outputs(heads: Sequence[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Give what output layers return, in their order: of the MTP layers, then of the decoder."""
    found: list[torch.Tensor] = []
    # A copy: the loss of the MTP layers changes their logits in place.
    handles = [
        head.register_forward_hook(lambda _head, _inputs, output: found.append(output[0].clone()))
        for head in heads
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

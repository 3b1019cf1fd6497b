"""A forward pass of Megatron-Bridge's models on the CPU, over all ranks, without a pipeline schedule.

To be imported after TransformerEngine or its stand-in has been (see `te_standin.install`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.multi_token_prediction import process_mtp_loss
from torch import nn

from mtp_regression.megatron.computing import computing_on_cpu
from mtp_regression.megatron.te_attention import own_of_packed, own_positions

_STARTS = "cu_seq_lens_q"
"""What a packed row has beside its tokens; see `adapters.protocol.MayHave.logits`."""


def logits(chunks: Sequence[nn.Module], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute logits; called on every rank.

    Args:
        chunks: This rank's model chunks, in any floating dtype; computed is in float32.
        batch: What `adapters.protocol.MayHave.logits` is given.

    Returns:
        On the ranks of the pipeline's last stage "main" and, for each MTP layer, "mtp.{i}": float32, [batch,
        sequence, vocabulary], of all tensor-parallel and context-parallel ranks. On other ranks nothing.
    """
    heads = [head for chunk in chunks if (head := _output_layer(chunk)) is not None]
    computing = computing_on_cpu(chunks, packed=_STARTS in batch)
    with torch.no_grad(), computing, _outputs(heads) as found:
        _through_pipeline([_unwrapped(chunk) for chunk in chunks], batch)
    if not found:
        return {}
    starts = batch.get(_STARTS)
    *mtp, main = (_whole(output, starts).transpose(0, 1).contiguous() for output in found)
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
    if hidden is not None:
        model.set_input_tensor([hidden] if _sees(model) else hidden)
    return model(**_arguments(model, batch))


def _sees(model: nn.Module) -> bool:
    """Tell whether it is a vision-language model, which makes positions and shares itself."""
    return hasattr(model, "language_model")


def _arguments(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return what Megatron's `forward` takes.

    Raises:
        NotImplementedError: The model has no such forward pass; the message says why.
    """
    _refuse_unknown(model)
    given: dict[str, Any] = {"position_ids": None, "attention_mask": None, **batch}
    starts = given.pop(_STARTS, None)
    if "attention_mask" in batch:
        given["attention_mask"] = _hidden(batch["attention_mask"])
    if starts is not None:
        given |= _packed(model, batch["input_ids"], starts)
    ids = given["input_ids"]
    # Before 0.19 Megatron-Core computes MTP's logits for their loss alone; what the labels are is no matter.
    given["labels"] = None if "input_ids" in signature(process_mtp_loss).parameters else ids
    if not _sees(model):
        if given["position_ids"] is None:
            given["position_ids"] = torch.arange(ids.shape[1]).expand_as(ids).contiguous()
        for name in ("input_ids", "position_ids", "labels"):
            given[name] = _own_part(given[name], starts)
    return given


def _refuse_unknown(model: nn.Module) -> None:
    """Refuse what cannot be computed over context-parallel ranks."""
    ranks = parallel_state.get_context_parallel_world_size()
    if ranks > 1 and _is_before_0_6(model):
        raise NotImplementedError(
            f"no forward pass over {ranks} context-parallel ranks: before Megatron-Bridge 0.6 the "
            "vision-language model cuts neither MTP's tokens nor a packed row's images"
        )


def _hidden(real: torch.Tensor) -> torch.Tensor:
    """Return Megatron's mask of an `attention_mask`: True where a token does not see another.

    As `get_ltor_masks_and_position_ids` of Megatron-LM makes it: [batch, 1, sequence, sequence].
    """
    seen = real[:, None, None].bool() & torch.ones(2 * real.shape[1:], dtype=torch.bool).tril()
    return ~seen


def _packed(model: nn.Module, ids: torch.Tensor, starts: torch.Tensor) -> dict[str, Any]:
    """Say where the documents of a packed row begin.

    Vision-language models before Megatron-Bridge 0.6 pack by themselves, and are given the documents as rows,
    with an `attention_mask` that is True for tokens.
    """
    lengths = starts.diff()
    longest = int(lengths.max())
    of_query = {"cu_seqlens_q": starts, "max_seqlen_q": longest}
    of_key = {"cu_seqlens_kv": starts, "max_seqlen_kv": longest}
    given: dict[str, Any] = {"packed_seq_params": PackedSeqParams(qkv_format="thd", **of_query, **of_key)}
    if _is_before_0_6(model):
        real = torch.arange(longest) < lengths[:, None]
        rows = torch.zeros(real.shape, dtype=ids.dtype)
        rows[real] = ids[0]
        given |= {"input_ids": rows, "attention_mask": real}
    return given


def _is_before_0_6(model: nn.Module) -> bool:
    """Tell whether it is a vision-language model of Megatron-Bridge before 0.6."""
    module = importlib.import_module(type(model).__module__)
    return _sees(model) and not hasattr(module, "_split_if_full_sequence")


def _own_part(tensor: torch.Tensor | None, starts: torch.Tensor | None) -> torch.Tensor | None:
    """Return what this context-parallel rank has of [batch, sequence], which may be packed."""
    group = parallel_state.get_context_parallel_group()
    if tensor is None or group.size() == 1:
        return tensor
    return tensor[:, _own(tensor.shape[1], starts, group.rank(), group.size())]


def _own(length: int, starts: torch.Tensor | None, rank: int, ranks: int) -> torch.Tensor:
    return own_positions(length, rank, ranks) if starts is None else own_of_packed(starts, rank, ranks)


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


def _whole(part: torch.Tensor, starts: torch.Tensor | None) -> torch.Tensor:
    """Put the parts of [sequence, batch, vocabulary] that the ranks have together."""
    part = torch.cat(_of_all(part, parallel_state.get_tensor_model_parallel_group()), dim=-1)
    group = parallel_state.get_context_parallel_group()
    ranks = group.size()
    if ranks == 1:
        return part
    parts = torch.cat(_of_all(part, group))
    return parts[torch.cat([_own(len(parts), starts, rank, ranks) for rank in range(ranks)]).argsort()]


def _of_all(part: torch.Tensor, group: Any) -> list[torch.Tensor]:
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(group.size())]
    dist.all_gather(parts, part.contiguous(), group=group)
    return parts


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

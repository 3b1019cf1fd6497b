"""The attention of the stand-in for TransformerEngine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist

from mtp_regression.megatron.te_base import Empty

_CAUSAL = ("causal", "padding_causal")
_KNOWN_MASKS = (*_CAUSAL, "no_mask", "padding", "arbitrary")


class DotProductAttention(Empty):
    """Attention without its projections: no parameters; computes in float32.

    Knows grouped queries, causal masks, padding, packed sequences, arbitrary masks, and causal masks over
    context-parallel ranks; raises RuntimeError for what it does not know: windows, other kinds of softmax,
    other masks over context-parallel ranks.
    """

    def __init__(
        self,
        num_attention_heads: int = 0,
        kv_channels: Any = 0,
        *,
        attn_mask_type: str = "causal",
        softmax_scale: float | None = None,
        softmax_type: str = "vanilla",
        window_size: tuple[int, int] | None = None,
        cp_group: Any = None,
        **_unused: object,
    ) -> None:
        super().__init__()
        del num_attention_heads, kv_channels
        self.attn_mask_type = attn_mask_type
        self.softmax_scale = softmax_scale
        self.softmax_type = softmax_type
        self.window_size = window_size
        self.cp_group = cp_group

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        qkv_format: str = "sbhd",
        attn_mask_type: str | None = None,
        core_attention_bias: torch.Tensor | None = None,
        cu_seqlens_q: torch.Tensor | None = None,
        **_unused: object,
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: [sequence, batch, heads, width] ("sbhd"), [batch, sequence, heads, width] ("bshd"), or
                [tokens, heads, width] ("thd", sequences one after another).
            key: The same, with as many heads or a divisor of their number.
            value: As the key.
            attention_mask: True where nothing is attended to: [batch, 1, 1, keys] of padding, or [batch, 1,
                queries, keys].
            qkv_format: See `query`.
            attn_mask_type: Takes the place of the module's.
            core_attention_bias: [batch or 1, heads or 1, queries, keys], added to the scaled scores.
            cu_seqlens_q: Of "thd": where each sequence begins, and the number of tokens.

        Context-parallel ranks have their `own_positions` each, of every sequence.

        Returns:
            As the query, with the heads side by side in the last dimension.
        """
        kind = attn_mask_type or self.attn_mask_type
        self._refuse_unknown(kind, qkv_format)
        heads_first = {"sbhd": (1, 2, 0, 3), "bshd": (0, 2, 1, 3)}
        if qkv_format == "thd":
            if cu_seqlens_q is None:
                raise RuntimeError("packed sequences need cu_seqlens_q")
            bounds = [bound // self._ranks for bound in cu_seqlens_q.tolist()]
            parts = [
                self._attend_over_ranks(*one, kind=kind) for one in _sequences(bounds, query, key, value)
            ]
            return torch.cat([part[0].transpose(0, 1) for part in parts]).flatten(1)
        order = heads_first[qkv_format]
        mask = attention_mask if kind in ("padding", "padding_causal", "arbitrary") else None
        moved = [tensor.permute(order) for tensor in (query, key, value)]
        attended = self._attend_over_ranks(*moved, kind=kind, mask=mask, bias=core_attention_bias)
        back = (2, 0, 1, 3) if qkv_format == "sbhd" else (0, 2, 1, 3)
        return attended.permute(back).flatten(2).contiguous()

    def _attend_over_ranks(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, kind: str, **others: Any
    ) -> torch.Tensor:
        """Attend to the keys of all context-parallel ranks."""
        if self._ranks == 1:
            return self._attend(query, key, value, causal=kind in _CAUSAL, **others)
        key, value = (_of_all_ranks(tensor, self.cp_group) for tensor in (key, value))
        others["mask"] = _later(query.shape[2], self.cp_group)
        return self._attend(query, key, value, causal=False, **others)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        causal: bool,
        mask: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend in [batch, heads, sequence, width]."""
        groups = query.shape[1] // key.shape[1]
        keys, values = (tensor.float().repeat_interleave(groups, dim=1) for tensor in (key, value))
        scale = query.shape[-1] ** -0.5 if self.softmax_scale is None else self.softmax_scale
        scores = query.float() @ keys.transpose(-1, -2) * scale
        if bias is not None:
            scores = scores + bias
        hidden = scores.new_zeros(scores.shape[-2:], dtype=torch.bool)
        if causal:
            hidden = torch.ones_like(hidden).triu(1)
        if mask is not None:
            hidden = hidden | mask
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        # A row that sees nothing is one of padding, whose values nobody reads.
        return (weights.nan_to_num() @ values).to(value.dtype)

    @property
    def _ranks(self) -> int:
        return 1 if self.cp_group is None else self.cp_group.size()

    def _refuse_unknown(self, kind: str, qkv_format: str) -> None:
        over_ranks = "padding_causal" if qkv_format == "thd" else "causal"
        known = (
            kind in _KNOWN_MASKS
            and self.softmax_type == "vanilla"
            and self.window_size in (None, (-1, -1), (-1, 0))
            and (self._ranks == 1 or kind == over_ranks)
        )
        if not known:
            raise RuntimeError(
                f"the stand-in for TransformerEngine does not compute this attention: mask {kind}, softmax "
                f"{self.softmax_type}, window {self.window_size}, {self._ranks} context-parallel ranks"
            )


def own_positions(length: int, rank: int, ranks: int) -> torch.Tensor:
    """Return which positions of a sequence a context-parallel rank has.

    Of 2 * ranks chunks it has that of its number, and the one as far from the end: under a causal mask all
    ranks have as much to do (`get_batch_on_this_cp_rank` of Megatron-Core).

    Args:
        length: Of the whole sequence; a multiple of 2 * ranks.
        rank: From 0.
        ranks: Number of context-parallel ranks.

    Raises:
        ValueError: The length is no such multiple.
    """
    if length % (2 * ranks):
        raise ValueError(f"{length} tokens cannot be cut into {2 * ranks} chunks, 2 a context-parallel rank")
    chunks = torch.arange(length).chunk(2 * ranks)
    return torch.cat([chunks[rank], chunks[2 * ranks - 1 - rank]])


def own_of_packed(starts: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """Return which positions of a packed row a context-parallel rank has: `own_positions` of each document.

    Args:
        starts: Where each document begins, and the row's length.
        rank: From 0.
        ranks: Number of context-parallel ranks.
    """
    documents = pairwise(starts.tolist())
    return torch.cat([start + own_positions(end - start, rank, ranks) for start, end in documents])


def _later(own: int, group: Any) -> torch.Tensor:
    """Return where a key, of all ranks one after another, comes later than a query of this rank."""
    ranks = group.size()
    positions = [own_positions(ranks * own, rank, ranks) for rank in range(ranks)]
    return torch.cat(positions) > positions[group.rank()][:, None]


def _of_all_ranks(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    """Put what the ranks have of [batch, heads, sequence, width] one after another."""
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise RuntimeError("the stand-in for TransformerEngine sends no gradients between ranks")
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(group.size())]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return torch.cat(parts, dim=2)


def _sequences(bounds: list[int], *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut packed sequences apart: each as [1, heads, sequence, width]."""
    for start, end in pairwise(bounds):
        yield tuple(tensor[start:end].transpose(0, 1).unsqueeze(0) for tensor in tensors)

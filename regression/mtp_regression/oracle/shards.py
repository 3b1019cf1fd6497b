"""Shards of a weight, and the order of its rows, by Megatron-Core's rules.

Weights are [outputs, inputs], as in a checkpoint; "rows" are the first axis. Functions keep the dtype, and
know nothing of names, layers or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""A numpy array of any dtype of a checkpoint; BF16 is `ml_dtypes.bfloat16`."""


@dataclass(frozen=True)
class Share:
    """Which of the equal blocks of a weight a rank has.

    Attributes:
        index: The rank in its tensor-parallel or expert-tensor-parallel group, from 0.
        count: The size of that group.
    """

    index: int = 0
    count: int = 1

    def column_parallel(self, *parts: Array) -> Array:
        """Take the rank's block of rows of each part, and concatenate the blocks.

        Parts of a fused projection are cut separately, so that every rank has a block of each: gate and up
        of a gated MLP, whose two local halves Megatron-Core multiplies
        (`megatron.core.transformer.mlp.MLP.forward`, `apply_swiglu_sharded_factory`), and query, key,
        value, z, beta and alpha of a GDN layer. The first axis is cut
        (`megatron.core.tensor_parallel.layers.ColumnParallelLinear`, `partition_dim` 0).

        Args:
            parts: [rows, ...] each, of one dtype, equal in all axes but the first.

        Returns:
            [sum of rows / count, ...], in the order of the parts.

        Raises:
            ValueError: The rows of a part are not a multiple of `count`.
        """
        return np.concatenate([np.split(part, self.count)[self.index] for part in parts])

    def row_parallel(self, weight: Array) -> Array:
        """Take the rank's block of columns.

        The second axis is cut (`megatron.core.tensor_parallel.layers.RowParallelLinear`, `partition_dim` 1);
        the bias of such a module is whole on every rank.

        Args:
            weight: [outputs, inputs].

        Returns:
            [outputs, inputs / count].

        Raises:
            ValueError: The columns are not a multiple of `count`.
        """
        return np.split(weight, self.count, axis=1)[self.index]


def interleave_groups(groups: int, *parts: Array) -> Array:
    """Order the rows of `linear_qkv` by query group: for each group, its rows of every part.

    The parts are query, output gate, key and value, in the order in which
    `megatron.core.transformer.attention.SelfAttention.get_query_key_value_tensors` splits them.

    Args:
        groups: Number of query groups (`num_key_value_heads`).
        parts: Weights [rows, H] or biases [rows], each with the rows of group 0 first.

    Returns:
        [sum of rows, H] or [sum of rows].

    Raises:
        ValueError: The rows of a part are not a multiple of `groups`.
    """
    blocks = zip(*(np.split(part, groups) for part in parts), strict=True)
    return np.concatenate([block for group in blocks for block in group])


def split_output_gate(query: Array, heads: int) -> tuple[Array, Array]:
    """Separate the rows of query and output gate, which alternate head by head in `q_proj`.

    Args:
        query: [heads * 2 * head_dim, ...]: each head's query rows, then its gate rows (transformers,
            `Qwen3_5Attention.forward`: the output is viewed per head, then halved).
        heads: The number of query heads.

    Returns:
        Query and gate, each [heads * head_dim, ...].

    Raises:
        ValueError: The rows are not a multiple of `2 * heads`.
    """
    blocks = np.split(query, 2 * heads)
    return np.concatenate(blocks[::2]), np.concatenate(blocks[1::2])


def pad_vocabulary(weight: Array, *, divisor: int, ranks: int) -> Array:
    """Append rows of zeros until the vocabulary is a multiple of `divisor * ranks`.

    The size is that of `megatron.core.tokenizers.utils.build_tokenizer.vocab_size_with_padding`. The
    checkpoint has no values for the added rows and no token uses them; the oracle expects zeros.

    Args:
        weight: [vocabulary, H].
        divisor: `make_vocab_size_divisible_by`; 1 where the vocabulary is not padded.
        ranks: Tensor-parallel size.

    Returns:
        [padded vocabulary, H], in the dtype of `weight`.
    """
    missing = -len(weight) % (divisor * ranks) if divisor > 1 else 0
    if not missing:
        return weight
    return np.concatenate([weight, np.zeros((missing, *weight.shape[1:]), weight.dtype)])

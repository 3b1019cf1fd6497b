"""What a rank holds of a whole weight, and in which order of rows, by Megatron-Core's rules.

Weights are [outputs, inputs], as in a checkpoint. Nothing here knows of names, layers or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Share:
    """One rank's place among those that cut a weight into equal blocks.

    Attributes:
        index: The rank's number, from 0.
        count: The number of ranks.
    """

    index: int = 0
    count: int = 1

    def column_parallel(self, *parts: Array) -> Array:
        """Cut out the rank's outputs: its block of rows of each part, one above the other.

        Parts that one module computes together are cut one by one, so that every rank has a block of
        each: gate and up of a gated unit, whose two local halves Megatron-Core multiplies
        (`megatron.core.transformer.mlp.MLP.forward`, `apply_swiglu_sharded_factory`), and query, key,
        value, z, beta and alpha of a GDN layer. The outputs are the first axis
        (`megatron.core.tensor_parallel.layers.ColumnParallelLinear`, `partition_dim` 0).

        Raises:
            ValueError: The rows of a part do not divide by the number of ranks.
        """
        return np.concatenate([np.split(part, self.count)[self.index] for part in parts])

    def row_parallel(self, weight: Array) -> Array:
        """Cut out the rank's inputs: its block of columns.

        The inputs are the second axis (`megatron.core.tensor_parallel.layers.RowParallelLinear`,
        `partition_dim` 1); the bias of such a module is whole on every rank.

        Raises:
            ValueError: The columns do not divide by the number of ranks.
        """
        return np.split(weight, self.count, axis=1)[self.index]


def interleave_groups(groups: int, *parts: Array) -> Array:
    """Put together what belongs to one query group: the group's block of every part, group after group.

    Query, output gate, key and value, in this order, are the parts of `linear_qkv`, which
    `megatron.core.transformer.attention.SelfAttention.get_query_key_value_tensors` takes apart.

    Args:
        groups: The number of query groups; as many as heads where every head has its own key.
        parts: Weights or biases, each with the rows of group 0 first.

    Raises:
        ValueError: The rows of a part do not divide by the number of groups.
    """
    blocks = zip(*(np.split(part, groups) for part in parts), strict=True)
    return np.concatenate([block for group in blocks for block in group])


def split_output_gate(query: Array, heads: int) -> tuple[Array, Array]:
    """Separate the rows of query and output gate, which `q_proj` holds head by head.

    Args:
        query: [heads * 2 * head_dim, ...]: each head's query rows, then its gate rows (transformers,
            `Qwen3_5Attention.forward`: the output is viewed per head, then halved).
        heads: The number of query heads.

    Returns:
        Query and gate, each [heads * head_dim, ...].

    Raises:
        ValueError: The rows do not divide by twice the number of heads.
    """
    blocks = np.split(query, 2 * heads)
    return np.concatenate(blocks[::2]), np.concatenate(blocks[1::2])


def pad_vocabulary(weight: Array, *, divisor: int, ranks: int) -> Array:
    """Append rows of zeros until the vocabulary is a multiple of `divisor * ranks`.

    So `megatron.core.tokenizers.utils.build_tokenizer.vocab_size_with_padding` counts them. Nothing reads
    the rows that are added; zeros are what a checkpoint's lack of them comes to.

    Args:
        weight: [vocabulary, hidden].
        divisor: `make_vocab_size_divisible_by`; 1 where the vocabulary is not padded.
        ranks: Tensor-parallel size.
    """
    missing = -len(weight) % (divisor * ranks) if divisor > 1 else 0
    if not missing:
        return weight
    return np.concatenate([weight, np.zeros((missing, *weight.shape[1:]), weight.dtype)])

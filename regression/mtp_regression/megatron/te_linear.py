"""The linear modules of the stand-in for TransformerEngine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from mtp_regression.megatron.te_base import Sharded, new_parameter
from mtp_regression.megatron.te_norms import normalized


class Linear(Sharded):
    """`weight` [out_features, in_features] and `bias` [out_features], in `params_dtype`.

    Column-parallel modules have `out_features / tp_size`, row-parallel ones `in_features / tp_size`.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self._add()
        if not self.use_bias:
            self.bias = None

    def forward(self, inputs: torch.Tensor, **_unused: object) -> Any:
        """Multiply [sequence, batch, in_features] by the weight.

        Returns:
            The product; with `return_bias` that without bias, and the bias.
        """
        return self._multiplied(inputs)

    def _multiplied(self, inputs: torch.Tensor) -> Any:
        """Multiply, and give the other tensor-parallel ranks what they need of it, and take theirs.

        A column-parallel module has whole rows of the input, of all ranks' parts of the sequence; a
        row-parallel one adds the ranks' products up, and with sequence parallelism keeps its own part.
        """
        together = self.tp_group is not None and self.tp_size > 1
        if together and torch.is_grad_enabled() and inputs.requires_grad:
            raise RuntimeError("the stand-in for TransformerEngine sends no gradients between ranks")
        if together and self.parallel_mode == "column" and self.sequence_parallel:
            whole = inputs.new_empty(self.tp_size * inputs.shape[0], *inputs.shape[1:])
            dist.all_gather_into_tensor(whole, inputs.contiguous(), group=self.tp_group)
            inputs = whole
        product = inputs @ self.weight.t()
        if together and self.parallel_mode == "row":
            dist.all_reduce(product, group=self.tp_group)
            if self.sequence_parallel:
                product = product.chunk(self.tp_size)[dist.get_rank(self.tp_group)].contiguous()
        if self.return_bias:
            return product, self.bias
        return product if self.bias is None else product + self.bias


class LayerNormLinear(Linear):
    """A `Linear` with the norm before it: `layer_norm_weight` [in_features], for LayerNorm also a bias."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        eps: float = 1e-5,
        normalization: str = "LayerNorm",
        zero_centered_gamma: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(in_features, out_features, **options)
        self.eps = eps
        self.normalization = normalization
        self.zero_centered_gamma = zero_centered_gamma
        self.layer_norm_weight = new_parameter(in_features, **self._place)
        self.layer_norm_weight.sequence_parallel = self.sequence_parallel
        self.layer_norm_bias = None
        if normalization == "LayerNorm":
            self.layer_norm_bias = new_parameter(in_features, **self._place)
            self.layer_norm_bias.sequence_parallel = self.sequence_parallel

    def forward(self, inputs: torch.Tensor, **_unused: object) -> Any:
        """Normalise [sequence, batch, in_features], and multiply by the weight."""
        scaled = normalized(
            inputs,
            self.layer_norm_weight,
            self.layer_norm_bias,
            eps=self.eps,
            zero_centered_gamma=self.zero_centered_gamma,
            rms=self.normalization == "RMSNorm",
        )
        return self._multiplied(scaled)


class GroupedLinear(Sharded):
    """`weight{i}` and `bias{i}` for each of `num_gemms` experts, each in the shape that `Linear` has.

    Adds up nothing over ranks: where experts are tensor-parallel, Megatron-Core's dispatcher does.
    """

    def __init__(self, num_gemms: int, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(in_features, out_features, **options)
        self.num_gemms = num_gemms
        for gemm in range(num_gemms):
            self._add(str(gemm))

    def forward(self, inputs: torch.Tensor, m_splits: torch.Tensor | Sequence[int], **_unused: object) -> Any:
        """Multiply [tokens, in_features], of which `m_splits` has each expert's number, one after another."""
        sizes = m_splits.tolist() if isinstance(m_splits, torch.Tensor) else list(m_splits)
        parts = inputs.split(sizes)
        weights = (getattr(self, f"weight{gemm}") for gemm in range(self.num_gemms))
        products = [part @ weight.t() for part, weight in zip(parts, weights, strict=True)]
        biases = [getattr(self, f"bias{gemm}") for gemm in range(self.num_gemms)] if self.use_bias else []
        if self.return_bias:
            return torch.cat(products), biases
        if biases:
            products = [product + bias for product, bias in zip(products, biases, strict=True)]
        return torch.cat(products)

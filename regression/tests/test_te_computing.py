"""What the stand-in for TransformerEngine computes is what torch's own functions compute."""

from typing import Any

import pytest
import te_jobs
import torch
from torch.nn import functional

from mtp_regression.megatron import te_attention, te_linear, te_norms
from mtp_regression.megatron.te_base import Empty
from mtp_regression.plugin import OnRanks

NEAR = {"rtol": 1e-5, "atol": 1e-5}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fill(module: Any, **values: torch.Tensor) -> Any:
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(value)
    return module


@pytest.mark.parametrize("zero_centered", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm(zero_centered: bool, dtype: torch.dtype) -> None:
    weight, inputs = drawn(6), drawn(5, 2, 6, seed=1).to(dtype)
    norm = te_norms.RMSNorm(6, eps=1e-3, zero_centered_gamma=zero_centered, dtype=torch.float32)
    found = fill(norm, weight=weight)(inputs)
    gamma = weight + 1 if zero_centered else weight
    expected = functional.rms_norm(inputs.float(), (6,), gamma, eps=1e-3).to(dtype)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)


def test_layer_norm() -> None:
    norm = fill(te_norms.LayerNorm(6, eps=1e-3, dtype=torch.float32), weight=drawn(6), bias=drawn(6, seed=1))
    inputs = drawn(5, 2, 6, seed=2)
    torch.testing.assert_close(
        norm(inputs), functional.layer_norm(inputs, (6,), drawn(6), drawn(6, seed=1), eps=1e-3)
    )


@pytest.mark.parametrize("return_bias", [False, True])
def test_linear(return_bias: bool) -> None:
    weight, bias, inputs = drawn(4, 6), drawn(4, seed=1), drawn(5, 2, 6, seed=2)
    linear = fill(te_linear.Linear(6, 4, return_bias=return_bias), weight=weight, bias=bias)
    found = linear(inputs, is_first_microbatch=None)
    if return_bias:
        product, left = found
        assert left is linear.bias
        found = product + left
    torch.testing.assert_close(found, functional.linear(inputs, weight, bias), **NEAR)


def test_grouped_linear_gives_each_expert_its_tokens() -> None:
    weights, biases = drawn(3, 4, 6), drawn(3, 4, seed=1)
    grouped = te_linear.GroupedLinear(3, 6, 4)
    for gemm in range(3):
        fill(grouped, **{f"weight{gemm}": weights[gemm], f"bias{gemm}": biases[gemm]})
    inputs = drawn(7, 6, seed=2)
    expert = torch.tensor([0, 0, 2, 2, 2, 2, 2])
    expected = torch.einsum("ti,toi->to", inputs, weights[expert]) + biases[expert]
    torch.testing.assert_close(grouped(inputs, [2, 0, 5]), expected, **NEAR)
    torch.testing.assert_close(grouped(inputs, torch.tensor([2, 0, 5])), expected, **NEAR)


def attention(**options: Any) -> Any:
    return te_attention.DotProductAttention(4, 8, num_gqa_groups=2, **options)


def qkv(length: int, seed: int = 0) -> list[torch.Tensor]:
    """Query [length, 2, 4, 8], key and value [length, 2, 2, 8]."""
    return [drawn(length, 2, heads, 8, seed=seed + number) for number, heads in enumerate((4, 2, 2))]


def torchs(tensors: list[torch.Tensor], **options: Any) -> torch.Tensor:
    """Attend by torch, of and to [length, batch, heads, width]; heads are joined."""
    query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in tensors)
    found = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True, **options)
    return found.permute(2, 0, 1, 3).flatten(2)


@pytest.mark.parametrize(
    ("options", "torchs_options"),
    [
        ({}, {"is_causal": True}),
        ({"attn_mask_type": "no_mask"}, {}),
        ({"softmax_scale": 0.1}, {"is_causal": True, "scale": 0.1}),
    ],
)
def test_attention(options: dict[str, Any], torchs_options: dict[str, Any]) -> None:
    tensors = qkv(7)
    torch.testing.assert_close(attention(**options)(*tensors), torchs(tensors, **torchs_options), **NEAR)
    batch_first = [tensor.transpose(0, 1) for tensor in tensors]
    found = attention(**options)(*batch_first, qkv_format="bshd")
    torch.testing.assert_close(found.transpose(0, 1), torchs(tensors, **torchs_options), **NEAR)


def test_padding_and_other_masks_hide_what_they_name() -> None:
    tensors = qkv(7)
    hidden = torch.zeros(2, 1, 1, 7, dtype=torch.bool)
    hidden[1, ..., 5:] = True
    found = attention(attn_mask_type="padding")(*tensors, hidden)
    torch.testing.assert_close(found, torchs(tensors, attn_mask=~hidden), **NEAR)
    causal = torch.ones(7, 7, dtype=torch.bool).triu(1)
    found = attention(attn_mask_type="padding_causal")(*tensors, hidden)
    torch.testing.assert_close(found, torchs(tensors, attn_mask=~(hidden | causal)), **NEAR)
    other = (drawn(2, 1, 7, 7) > 0.5) & ~torch.eye(7, dtype=torch.bool)
    found = attention()(*tensors, other, attn_mask_type="arbitrary")
    torch.testing.assert_close(found, torchs(tensors, attn_mask=~other), **NEAR)


def test_mask_of_a_causal_module_changes_nothing() -> None:
    tensors = qkv(7)
    nothing = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    assert torch.equal(attention()(*tensors, nothing), attention()(*tensors))


def test_packed_sequences_see_only_themselves() -> None:
    first, second = qkv(3), qkv(5, seed=7)
    packed = [torch.cat([one[:, 0], other[:, 0]]) for one, other in zip(first, second, strict=True)]
    bounds = torch.tensor([0, 3, 8])
    found = attention()(*packed, qkv_format="thd", cu_seqlens_q=bounds, attn_mask_type="padding_causal")
    expected = [torchs([tensor[:, :1] for tensor in part], is_causal=True)[:, 0] for part in (first, second)]
    torch.testing.assert_close(found, torch.cat(expected), **NEAR)


@pytest.mark.parametrize(
    "options",
    [{"window_size": (3, 0)}, {"softmax_type": "learnable"}, {"attn_mask_type": "causal_bottom_right"}],
)
def test_attention_that_is_not_known_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="does not compute this attention"):
        attention(**options)(*qkv(3))


@pytest.mark.parametrize("sequence_parallel", [False, True])
@pytest.mark.ranks(2)
def test_tensor_parallel_modules_together_are_the_whole_ones(
    sequence_parallel: bool, on_ranks: OnRanks
) -> None:
    assert max(on_ranks(te_jobs.column_then_row, sequence_parallel)) < 1e-5


@pytest.mark.ranks(2)
def test_context_parallel_ranks_together_attend_as_one(on_ranks: OnRanks) -> None:
    assert max(on_ranks(te_jobs.attention_over_ranks)) < 1e-5


@pytest.mark.ranks(2)
def test_gradient_between_ranks_is_refused(on_ranks: OnRanks) -> None:
    for error in on_ranks(te_jobs.gradient_between_ranks):
        assert "sends no gradients between ranks" in error


def test_what_is_not_known_says_so() -> None:
    unknown = type("Unknown", (Empty,), {})
    with pytest.raises(RuntimeError, match=r"Unknown: the stand-in .* does not compute this"):
        unknown()()

"""Functions that test_te_computing has run on ranks."""

from unittest import mock

import torch
import torch.distributed as dist

from mtp_regression.megatron import te_attention, te_linear
from mtp_regression.ranks.world import World


def column_then_row(world: World, sequence_parallel: bool) -> float:
    """Put a column-parallel and a row-parallel module one after the other; return how far from whole ones."""
    whole, (inputs, first, gamma, second) = expected()
    options = {"tp_size": world.size, "tp_group": dist.group.WORLD, "sequence_parallel": sequence_parallel}
    column = te_linear.LayerNormLinear(
        8, 12, normalization="RMSNorm", bias=False, parallel_mode="column", eps=1e-6, **options
    )
    row = te_linear.Linear(12, 8, bias=False, parallel_mode="row", **options)
    with torch.no_grad():
        column.layer_norm_weight.copy_(gamma)
        column.weight.copy_(first.chunk(world.size)[world.rank])
        row.weight.copy_(second.chunk(world.size, dim=1)[world.rank])
        part = inputs.chunk(world.size)[world.rank] if sequence_parallel else inputs
        found = row(torch.tanh(column(part)))
    if sequence_parallel:
        whole = whole.chunk(world.size)[world.rank]
    return float((found - whole).abs().max())


def expected() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return what whole modules give, and input, first weight, norm and second weight."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 3, 8, generator=draw)
    first, gamma, second = (torch.randn(*shape, generator=draw) for shape in ((12, 8), (8,), (8, 12)))
    scaled = torch.nn.functional.rms_norm(inputs, (8,), gamma, eps=1e-6)
    return torch.tanh(scaled @ first.t()) @ second.t(), (inputs, first, gamma, second)


def attention_over_ranks(world: World) -> float:
    """Attend, causally, to a sequence that the ranks share; return how far from attention on one rank."""
    whole = [torch.randn(12, 2, heads, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2)]
    tensors = [whole[0], whole[1], whole[1].flip(0)]
    own = te_attention.own_positions(12, world.rank, world.size)
    expected_of_all = te_attention.DotProductAttention(4, 8)(*tensors)
    attention = te_attention.DotProductAttention(4, 8, cp_group=dist.group.WORLD)
    found = attention(*(tensor[own] for tensor in tensors))
    apart = float((found - expected_of_all[own]).abs().max())
    starts, packed = torch.tensor([0, 8, 12]), [tensor[:, 0] for tensor in tensors]
    of_packed = {"qkv_format": "thd", "cu_seqlens_q": starts, "attn_mask_type": "padding_causal"}
    own = te_attention.own_of_packed(starts, world.rank, world.size)
    expected_of_all = te_attention.DotProductAttention(4, 8)(*packed, **of_packed)
    found = attention(*(tensor[own] for tensor in packed), **of_packed)
    return max(apart, float((found - expected_of_all[own]).abs().max()))


def gradient_between_ranks(world: World) -> str:
    """Ask for a gradient through a module that is shared; return the error."""
    linear = te_linear.Linear(4, 4, tp_size=world.size, tp_group=dist.group.WORLD, parallel_mode="row")
    try:
        linear(torch.ones(1, 1, 2, requires_grad=True))
    except RuntimeError as error:
        return str(error)
    return ""


def refusal_of_an_older_model(_world: World) -> str:
    """Have a vision-language model without what 0.6 brought compute over two ranks; return the error."""
    import mtp_regression.adapters.megatron_bridge  # noqa: F401 - before Megatron-Core
    from mtp_regression.megatron import forward

    model = torch.nn.Module()
    model.language_model = torch.nn.Module()
    size = "get_context_parallel_world_size"
    with mock.patch(f"megatron.core.parallel_state.{size}", return_value=2):
        try:
            forward._arguments(model, {"input_ids": torch.zeros(1, 8)})
        except NotImplementedError as error:
            return str(error)
    return ""

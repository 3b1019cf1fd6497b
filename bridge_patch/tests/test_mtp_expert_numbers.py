"""Experts held one by one are numbered over ranks, while a bridge of the family names parameters."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fixes.expert_numbers import FIX

Make = Callable[..., SimpleNamespace]

COMMON = "megatron.bridge.models.conversion.model_bridge"
NAME = "decoder.layers.2.mlp.experts.local_experts.{}.linear_fc1.weight"
OTHERS = (
    "decoder.layers.2.mlp.experts.local_experts.2.adapter.weight",
    "decoder.layers.2.mlp.experts.linear_fc1.weight10",
    "output_layer.weight",
)


@pytest.fixture(params=["names", "tasks"])
def names(
    request: pytest.FixtureRequest,
    install_release: Callable[[str], Path],
    import_bridge: Callable[[], ModuleType],
    checkpoint: Make,
    chunk: Make,
) -> Callable[..., list[str]]:
    """Return a function that lets the bridge of a patched 0.4.2 name the parameters of a model.

    It is asked for the names, or for tasks, for which it names them too.
    """
    install_release("0.4.2")
    mtp_bridge_patch.apply(only=[FIX.id])
    bridge = import_bridge().Qwen35VLMoEBridge()

    def named(*local: str, rank: int | None) -> list[str]:
        ep = None if rank is None else SimpleNamespace(size=lambda: 4, rank=lambda: rank)
        model = [chunk(*local, groups={"ep": ep}, num_moe_experts=48)]
        if request.param == "names":
            return list(bridge._megatron_global_param_names_all_pp_ranks(model))
        asked: list[str] = []
        bridge._get_lora_unwrapped_name = asked.append
        bridge.mapping_registry = lambda: SimpleNamespace(megatron_to_hf_lookup=lambda _: None)
        bridge.build_conversion_tasks(checkpoint(), model)
        return asked

    return named


def test_mtp_experts_are_numbered_over_ranks_and_sorted(names: Callable[..., list[str]]) -> None:
    local = [NAME.format(number) for number in (10, 2, 0)]
    assert names(*local, rank=3) == [NAME.format(number) for number in (36, 38, 46)]
    assert names(*local, rank=None) == local[::-1]


def test_other_parameters_are_named_as_upstream_does(names: Callable[..., list[str]]) -> None:
    adapter, grouped, output = OTHERS
    assert set(names(*OTHERS, rank=1)) == {adapter, grouped.replace("t10", "t22"), output}


@pytest.mark.usefixtures("names")
def test_upstreams_functions_stay_where_they_are(chunk: Make) -> None:
    common: Any = importlib.import_module(COMMON)
    model = chunk(groups={"ep": SimpleNamespace(size=lambda: 4, rank=lambda: 3)}, num_moe_experts=48)
    assert common._megatron_local_name_to_global([model], model.config, NAME.format(2)) == NAME.format(2)
    assert common.extract_sort_key(NAME.format(2))[0] == [2, -1]


def test_later_releases_number_them(install_release: Callable[[str], Path]) -> None:
    install_release("0.5.1")
    assert FIX.id not in {fix.id for fix in mtp_bridge_patch.status_of().applied}

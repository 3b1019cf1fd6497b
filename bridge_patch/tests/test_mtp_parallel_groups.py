"""Groups are the model's own, or those of Megatron-Core with releases that know no others."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mtp_bridge_patch.upstream.parallel_groups import expert_parallel_group, is_last_stage

Make = Callable[..., SimpleNamespace]


def group(rank: int, size: int) -> SimpleNamespace:
    return SimpleNamespace(rank=lambda: rank, size=lambda: size)


@pytest.fixture(params=["0.4.0", "0.4.1", "0.4.2", "0.6.2"])
def models(
    request: pytest.FixtureRequest,
    install_release: Callable[[str], Path],
    import_bridge: Callable[[], ModuleType],
    chunk: Make,
) -> Callable[..., list[Any]]:
    """Return a function that makes a model of given groups."""
    install_release(request.param)
    import_bridge()
    return lambda ep, pp: [chunk(groups={"ep": ep, "pp": pp})]


def test_expert_parallel_group(models: Callable[..., list[Any]]) -> None:
    ep = group(1, 2)
    assert expert_parallel_group(models(ep, group(0, 1))) is ep


@pytest.mark.parametrize(("rank", "size", "last"), [(0, 1, True), (0, 2, False), (1, 3, False), (2, 3, True)])
def test_last_stage(models: Callable[..., list[Any]], rank: int, size: int, last: bool) -> None:
    assert is_last_stage(models(None, group(rank, size))) is last

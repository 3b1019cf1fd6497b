"""Tied embeddings are broadcast from the chunk that has them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import mtp_bridge_patch

Make = Callable[..., SimpleNamespace]


@pytest.mark.parametrize(("rank", "expected"), [(0, 0), (1, 0), (2, 1)])
@pytest.mark.parametrize("release", ["0.4.2", "0.5.1"])
def test_mtp_embeddings_are_on_the_last_chunk_of_the_last_stage(
    install_release: Callable[[str], Path],
    import_bridge: Callable[[], ModuleType],
    chunk: Make,
    release: str,
    rank: int,
    expected: int,
) -> None:
    install_release(release)
    mtp_bridge_patch.apply(only=["tied-embeddings-vpp"])
    pp = SimpleNamespace(size=lambda: 3, rank=lambda: rank)
    model = [chunk(groups={"pp": pp}), chunk(groups={"pp": pp})]
    bridge = import_bridge().Qwen35VLBridge()
    bridge._broadcast_shared_embeddings(model)
    assert len(bridge.broadcast) == 1
    assert bridge.broadcast[0] is model[expected]

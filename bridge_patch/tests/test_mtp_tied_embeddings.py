"""Tied embeddings are broadcast from the chunk that has them, and exported by all keys they are stored by."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fixes.tied_embeddings import FIX
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.hooks import Export

Make = Callable[..., SimpleNamespace]
EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


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


@pytest.mark.parametrize(
    ("name", "keys", "tied", "expected"),
    [
        (EMBEDDING, (EMBEDDING, HEAD), True, [(EMBEDDING, "weight"), (HEAD, "copy")]),
        (EMBEDDING, (EMBEDDING,), True, [(EMBEDDING, "weight")]),
        (EMBEDDING, (EMBEDDING, HEAD), False, [(EMBEDDING, "weight")]),
        ("mtp.fc.weight", (EMBEDDING, HEAD), True, [("mtp.fc.weight", "weight")]),
        (
            "model.embed_tokens.weight",
            (HEAD,),
            True,
            [("model.embed_tokens.weight", "weight")],
        ),  # upstream does
    ],
)
def test_mtp_stored_head_is_exported_with_the_embedding(
    checkpoint: Make, name: str, keys: tuple[str, ...], tied: bool, expected: list[tuple[str, str]]
) -> None:
    config = SimpleNamespace(share_embeddings_and_output_weights=tied)
    weight = SimpleNamespace(name="weight", clone=lambda: SimpleNamespace(name="copy"))
    assert FIX.export is not None
    found = FIX.export(name, weight, Export(Conversion(checkpoint(*keys), config), None))
    assert [(key, tensor.name) for key, tensor in found] == expected
    config_alone = FIX.export(name, weight, Export(Conversion(SimpleNamespace(), config), None))
    assert [key for key, _ in config_alone] == [name]

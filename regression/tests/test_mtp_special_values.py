"""Special values leave the model what it is: with them a forward pass is finite and spreads as without."""

from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.values.specials import Specials

from .transformers_models import one_thread, whole  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("one_thread")


def logits(name: str, folder: Path) -> Any:
    """Compute in F32 on 2 x 80 tokens, which is more than a chunk of the linear attention."""
    import torch
    import transformers

    folder = CheckpointSpec(preset(name)).write(folder)
    model = getattr(transformers, whole(name)).from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, 600, (2, 80), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize(
    "name", ["qwen3.5-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b", "qwen3.5-397b-a17b", "qwen3-next-80b-a3b"]
)
def test_logits_are_finite_and_spread_as_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = logits(name, tmp_path / "special")
    monkeypatch.setattr(Specials, "write", lambda *_: None)
    plain = logits(name, tmp_path / "plain")
    assert found.isfinite().all()
    assert not found.equal(plain)
    for spread in (lambda values: values.std(), lambda values: values.std(1).mean()):  # over tokens
        assert 0.9 < spread(found) / spread(plain) < 1.1
    assert found.abs().max() < 1.5 * plain.abs().max()

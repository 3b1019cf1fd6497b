"""What the patched bridge saves, transformers loads again, with the same parameters as the checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
from saved_folders import save_again

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.plugin import OnRanks
from mtp_regression.scenarios.scenario import Use

from .transformers_models import (
    dequantized,
    differing,
    expected_parameters,
    load,
    one_by_one,
    one_thread,  # noqa: F401 - a fixture
    read,
)

pytestmark = [pytest.mark.megatron, pytest.mark.usefixtures("one_thread")]

VISION, CAUSAL = "AutoModelForImageTextToText", "AutoModelForCausalLM"


@pytest.mark.parametrize(
    ("preset", "options", "use", "auto"),
    [
        ("qwen3.6-35b-a3b", {}, Use.PLAIN, VISION),
        ("qwen3.5-35b-a3b", {"mtp_layers": 2}, Use.SEQUENTIAL, VISION),
        ("qwen3.6-35b-a3b", {}, Use.CONFIG_ONLY, VISION),
        ("qwen3.5-0.8b", {}, Use.PLAIN, VISION),
        ("qwen3.6-35b-a3b", {"text_only": True}, Use.PLAIN, CAUSAL),
    ],
    ids=["packed", "sequential", "config-only", "tied", "text-only"],
)
def test_saved_folder_loads(
    preset: str,
    options: dict[str, Any],
    use: Use,
    auto: str,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    on_ranks: OnRanks,
) -> None:
    checkpoint = make_checkpoint(preset, **options)
    saved = save(use, checkpoint, tmp_path, on_ranks)
    expected = one_by_one(load(checkpoint, auto).state_dict())
    assert not differing(load(saved, auto), expected)


@pytest.mark.parametrize(
    ("use", "dtype"), [(Use.CONFIG_ONLY, None), (Use.PLAIN, "bfloat16")], ids=["config-only", "asked-for"]
)
def test_fp8_checkpoint_saved_without_scales_loads(
    use: Use,
    dtype: str | None,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    on_ranks: OnRanks,
) -> None:
    checkpoint = make_checkpoint("qwen3.6-35b-a3b-fp8")
    saved = save(use, checkpoint, tmp_path, on_ranks, dtype)
    assert "quantization_config" not in json.loads((saved / "config.json").read_text())
    model = load(saved, VISION)
    assert not differing(model, expected_parameters(dequantized(read(checkpoint)), model))


def save(use: Use, checkpoint: Path, folder: Path, on_ranks: OnRanks, dtype: str | None = None) -> Path:
    """Save a checkpoint again through the patched bridge; returns the folder."""
    saved = folder / "saved"
    on_ranks(save_again, use.adapter(patched=True), str(checkpoint), str(saved), dtype)
    return saved

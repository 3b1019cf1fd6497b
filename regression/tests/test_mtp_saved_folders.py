"""What the patched bridge saves, transformers loads again, with the same parameters as the checkpoint."""

from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression import ranks
from mtp_regression.scenarios import Use

from .transformers_models import differing, load, one_by_one, one_thread  # noqa: F401 - a fixture

pytestmark = [pytest.mark.xdist_group("megatron"), pytest.mark.usefixtures("main_job", "one_thread")]

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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = make_checkpoint(preset, **options)
    saved = tmp_path / "saved"
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from saved_folders import save_again

    adapter_name = use.adapter(patched=True)
    ranks.run(
        save_again,
        adapter_name,
        str(checkpoint),
        str(saved),
        world_size=1,
        time_limit=120,
        log_folder=tmp_path / "logs",
        preload=[adapter_name.partition(":")[0]],
    )
    expected = one_by_one(load(checkpoint, auto).state_dict())
    assert not differing(load(saved, auto), expected)

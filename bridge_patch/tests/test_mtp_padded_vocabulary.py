"""Rows that were added to a vocabulary are not exported."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Make = Callable[..., SimpleNamespace]

OUTPUT, FC = "language_model.output_layer.weight", "language_model.mtp.layers.0.eh_proj.weight"
WEIGHT = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.fixture
def bridge(patched_module: Callable[[str], ModuleType]) -> Any:
    return patched_module("padded-vocabulary").Qwen35VLMoEBridge()


def exported(bridge: Any, model: SimpleNamespace, checkpoint: Make) -> dict[str, Any]:
    keys = checkpoint("lm_head.weight", "mtp.fc.weight")
    return {name: weight.tolist() for name, weight in bridge.stream_weights_megatron_to_hf([model], keys)}


def test_mtp_added_rows_are_cut_from_the_vocabulary_alone(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    found = exported(bridge, chunk(OUTPUT, FC, weight=WEIGHT, vocab_size=4), checkpoint)
    assert found == {"lm_head.weight": WEIGHT[:4].tolist(), "mtp.fc.weight": WEIGHT.tolist()}


def test_mtp_vocabulary_of_unknown_size_is_exported_whole(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    assert exported(bridge, chunk(OUTPUT, weight=WEIGHT), checkpoint) == {"lm_head.weight": WEIGHT.tolist()}

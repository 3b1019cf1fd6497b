"""An incomplete load is refused before anything is loaded, and all that is wrong is told at once."""

import logging
import pickle
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mtp_bridge_patch.errors import IncompleteLoadError
from mtp_bridge_patch.fixes.strict_load import loading
from mtp_checkpoint.errors import LayoutError

Make = Callable[..., SimpleNamespace]

OUTPUT = "language_model.output_layer.weight"
PROJECTION = "language_model.mtp.layers.0.eh_proj.weight"
ROUTER = "language_model.mtp.layers.0.mtp_model_layer.mlp.router.weight"
EXPERT = "language_model.mtp.layers.0.mtp_model_layer.mlp.experts.linear_fc2.weight"
EXPERT_KEY = "mtp.layers.0.mlp.experts.{}.down_proj.weight"
UNKNOWN = ("vision_model.patch.weight", "vision_model.patch.bias")


@pytest.fixture
def bridge(patched_module: Callable[[str], ModuleType]) -> Any:
    return patched_module("strict-load").Qwen35VLMoEBridge()


def test_mtp_incomplete_load_tells_all_at_once(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    # Two keys are missing, two parameters unknown, one key left over.
    model = [chunk(OUTPUT, PROJECTION, ROUTER, *UNKNOWN)]
    with pytest.raises(IncompleteLoadError) as caught:
        bridge.load_weights_hf_to_megatron(checkpoint("lm_head.weight", "extra.weight"), model)
    error = caught.value
    assert error.missing == ("mtp.fc.weight", "mtp.layers.0.mlp.gate.weight")
    assert sorted(error.unmapped) == sorted(UNKNOWN)
    assert error.unused == ("extra.weight",)
    assert not hasattr(bridge, "broadcast")  # nothing was loaded
    lines = str(error).splitlines()
    assert lines[0] == "/models/tiny cannot be loaded whole:"
    assert lines[1].strip() == (
        "parameters need what is not there: 2 keys (mtp.fc.weight, mtp.layers.0.mlp.gate.weight)"
    )
    assert lines[2].strip().startswith("the bridge has no mapping of 2 parameters (")
    assert all(name in lines[2] for name in UNKNOWN)
    assert lines[3].strip() == "no parameter takes: 1 key (extra.weight)"
    assert "complete it" in lines[4]
    assert "no fault of the checkpoint" in lines[5]
    copied = pickle.loads(pickle.dumps(error))  # as between processes
    assert (str(copied), copied.missing, copied.unmapped) == (str(error), error.missing, error.unmapped)


@pytest.mark.parametrize(
    ("names", "keys", "attribute", "expected"),
    [
        ((PROJECTION,), (), "missing", ("mtp.fc.weight",)),
        ((UNKNOWN[0],), (), "unmapped", UNKNOWN[:1]),
    ],
)
def test_either_is_enough(
    bridge: Any,
    checkpoint: Make,
    chunk: Make,
    names: tuple[str, ...],
    keys: tuple[str, ...],
    attribute: str,
    expected: tuple[str, ...],
) -> None:
    with pytest.raises(IncompleteLoadError) as caught:
        bridge.load_weights_hf_to_megatron(checkpoint(*keys), [chunk(*names)])
    assert getattr(caught.value, attribute) == expected
    assert len(caught.value.problems) == 1
    assert ("no fault of the checkpoint" in str(caught.value)) is (attribute == "unmapped")
    assert ("complete it" in str(caught.value)) is (attribute == "missing")
    assert not isinstance(caught.value, LayoutError)


def test_unused_keys_alone_are_a_warning(
    bridge: Any, checkpoint: Make, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ("lm_head.weight", "lm_head.weight_scale_inv", "extra.weight")  # a scale goes with its weight
    assert len(bridge.load_weights_hf_to_megatron(checkpoint(*keys), [chunk(OUTPUT)])) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no parameter takes: 1 key (extra.weight)" in caplog.text


def test_complete_load_is_silent(
    bridge: Any, checkpoint: Make, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bridge.load_weights_hf_to_megatron(checkpoint("lm_head.weight"), [chunk(OUTPUT)])
    assert not caplog.records


def test_not_strict_is_a_warning(
    bridge: Any, checkpoint: Make, chunk: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = [chunk(OUTPUT, PROJECTION, UNKNOWN[0])]
    with loading(strict=False):
        tasks = bridge.load_weights_hf_to_megatron(checkpoint("lm_head.weight", "extra"), model)
    # A parameter without a mapping has no task, on which upstream would crash.
    assert {task.megatron_param for task in tasks} == {PROJECTION, OUTPUT}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for text in ("1 key (mtp.fc.weight)", UNKNOWN[0], "1 key (extra)"):
        assert text in caplog.text
    with pytest.raises(IncompleteLoadError):
        bridge.load_weights_hf_to_megatron(checkpoint("lm_head.weight"), model)


def test_tied_output_layer_needs_no_key(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    tied = [chunk(OUTPUT, PROJECTION, share_embeddings_and_output_weights=True)]
    bridge.load_weights_hf_to_megatron(checkpoint("mtp.fc.weight"), tied)
    with pytest.raises(IncompleteLoadError, match=r"1 key \(lm_head.weight\)"):
        bridge.load_weights_hf_to_megatron(checkpoint("mtp.fc.weight"), [chunk(OUTPUT, PROJECTION)])


def test_experts_of_other_ranks_are_looked_for(bridge: Any, checkpoint: Make, chunk: Make) -> None:
    ep = SimpleNamespace(size=lambda: 2, rank=lambda: 1)
    model = [chunk(EXPERT + "0", EXPERT + "1", groups={"ep": ep}, num_moe_experts=4)]
    bridge.load_weights_hf_to_megatron(checkpoint(*map(EXPERT_KEY.format, range(4))), model)
    with pytest.raises(IncompleteLoadError) as caught:
        bridge.load_weights_hf_to_megatron(checkpoint(EXPERT_KEY.format(0), EXPERT_KEY.format(3)), model)
    assert sorted(caught.value.missing) == [EXPERT_KEY.format(1), EXPERT_KEY.format(2)]


def test_config_alone_is_not_compared(bridge: Any, chunk: Make) -> None:
    assert bridge.load_weights_hf_to_megatron(SimpleNamespace(model_type="qwen3_5"), [chunk(PROJECTION)])

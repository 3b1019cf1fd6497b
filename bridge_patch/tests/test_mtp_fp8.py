"""FP8 checkpoints without the right scales are refused before anything is loaded."""

import json
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.upstream import conversion
from mtp_checkpoint.files.checkpoint import CheckpointHeaders, read_checkpoint

Tensors = dict[str, tuple[str, tuple[int, ...]]]

EXPERT = "mtp.layers.0.mlp.experts.0."
WEIGHTS: Tensors = {
    f"{EXPERT}{name}_proj.weight": ("F8_E4M3", shape)
    for name, shape in (("gate", (130, 256)), ("up", (128, 256)), ("down", (256, 129)))
}
# A number for each block of 128 x 128, begun ones too.
SCALES: Tensors = {
    f"{EXPERT}{name}_proj.weight_scale_inv": ("F32", shape)
    for name, shape in (("gate", (2, 2)), ("up", (1, 2)), ("down", (2, 2)))
}
BYTES = {"F8_E4M3": 1, "F32": 4, "BF16": 2}


@pytest.fixture
def bridge(patched_module: Callable[[str], ModuleType]) -> Any:
    return patched_module("fp8-per-expert").Qwen35VLMoEBridge()


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Tensors], SimpleNamespace]:
    """Return a function that writes a checkpoint of zeros, and gives it as upstream's ``hf_pretrained``."""

    def write(tensors: Tensors) -> SimpleNamespace:
        header, end = {}, 0
        for name, (dtype, shape) in tensors.items():
            begin, end = end, end + prod(shape) * BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        encoded = json.dumps(header).encode()
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        data = struct.pack("<Q", len(encoded)) + encoded + bytes(end)
        (folder / "model.safetensors").write_bytes(data)
        source = SimpleNamespace(path=folder, get_all_keys=lambda: list(tensors))
        return SimpleNamespace(state=SimpleNamespace(source=source))

    return write


def test_mtp_scales_for_every_block_are_taken(bridge: Any, stored: Callable[[Tensors], Any]) -> None:
    assert bridge.load_weights_hf_to_megatron(stored(WEIGHTS | SCALES), [])


def test_headers_are_read_once_a_load(
    install_release: Callable[[str], Path],
    import_bridge: Callable[[], ModuleType],
    stored: Callable[[Tensors], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_release("0.6.2")
    mtp_bridge_patch.apply()
    read: list[Path] = []

    def reads(path: Path) -> CheckpointHeaders:
        read.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr(conversion, "read_checkpoint", reads)
    monkeypatch.setattr("mtp_checkpoint.inspection.inspection.read_checkpoint", read.append)
    gate, up, down = WEIGHTS
    checkpoint = stored({gate: ("BF16", (130, 256)), up: ("BF16", (130, 256)), down: ("BF16", (256, 130))})
    assert import_bridge().Qwen35VLMoEBridge().load_weights_hf_to_megatron(checkpoint, [])
    assert read == [checkpoint.state.source.path]


@pytest.mark.parametrize("block", ["MTP", "decoder"])
def test_packed_experts_are_refused(bridge: Any, stored: Callable[[Tensors], Any], block: str) -> None:
    prefix = "mtp." if block == "MTP" else "model.language_model."
    packed: Tensors = {}
    for name, rows, columns in (("gate_up", 3, 1), ("down", 1, 2)):
        key = f"{prefix}layers.0.mlp.experts.{name}_proj"
        packed[key] = ("F8_E4M3", (2, rows * 128, columns * 128))
        packed[key + "_scale_inv"] = ("BF16", (2, rows, columns))
    with pytest.raises(mtp_bridge_patch.LayoutError) as caught:
        bridge.load_weights_hf_to_megatron(stored(packed), [])
    assert caught.value.problems == (
        f"{block}: experts are fp8-packed, which cannot be loaded; dequantize them or store them one by one",
    )
    assert not hasattr(bridge, "broadcast")  # nothing was loaded


def test_other_dtypes_need_no_scale(bridge: Any, stored: Callable[[Tensors], Any]) -> None:
    assert bridge.load_weights_hf_to_megatron(stored({"lm_head.weight": ("BF16", (4, 4))}), [])


def test_mtp_scales_that_are_wrong_are_all_told(bridge: Any, stored: Callable[[Tensors], Any]) -> None:
    gate, up, down = SCALES
    other: Tensors = {gate: ("F32", (1, 2)), up: ("F32", (2, 1))}
    with pytest.raises(mtp_bridge_patch.LayoutError) as caught:
        bridge.load_weights_hf_to_megatron(stored(WEIGHTS | other), [])
    assert caught.value.problems == (
        f"scales missing: 1 key ({down})",
        f"scales that are not one for each block of 128 x 128: 2 keys ({gate}, {up})",
    )
    assert caught.value.checkpoint.endswith("/checkpoint")
    assert not hasattr(bridge, "broadcast")  # nothing was loaded


@pytest.mark.parametrize("shape", [(), (2,), (1, 1), (2, 2, 1), (130, 256)])
def test_scale_of_another_shape_is_refused(
    bridge: Any, stored: Callable[[Tensors], Any], shape: tuple[int, ...]
) -> None:
    name = next(iter(SCALES))
    with pytest.raises(mtp_bridge_patch.LayoutError, match="are not one for each block"):
        bridge.load_weights_hf_to_megatron(stored(WEIGHTS | SCALES | {name: ("F32", shape)}), [])

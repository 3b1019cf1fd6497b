"""An FP8 checkpoint in BF16, which transformers loads on a CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_checkpoint.layouts.keys import parse
from mtp_regression.comparison.other_checkpoint import write_checkpoint
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.oracle.source import Source

QUANTIZATION = "quantization_config"


def dequantized(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, RawTensor]:
    """Multiply FP8 weights by their scales and round them to BF16, as a bridge loads them.

    Args:
        tensors: The checkpoint's; each is read when it is asked for.
        config: Its `config.json`.

    Returns:
        All tensors but the scales.
    """
    source = Source(tensors, config)
    return {
        name: RawTensor("BF16", tensor.shape, partial(_bytes, source, name))
        if tensor.dtype == "F8_E4M3"
        else tensor
        for name, tensor in tensors.items()
        if not parse(name).scale
    }


def _bytes(source: Source, name: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray(source.weight(name)).reshape(-1).view(np.uint8)


def write_dequantized(folder: Path, tensors: Tensors, *, like: Path) -> None:
    """Write dequantized tensors as a checkpoint that declares no quantization.

    Args:
        folder: Where to; it does not exist.
        tensors: From `dequantized`.
        like: The FP8 checkpoint.
    """
    write_checkpoint(folder, tensors, like=like)
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8"))
    del config[QUANTIZATION]
    path.write_text(json.dumps(config), encoding="utf-8")

"""Tensor parallelism may be larger than the number of key/value heads, by what Megatron-Core allows."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import mtp_bridge_patch

MODULE = "megatron.bridge.models.qwen_vl.qwen35_vl_provider"


@pytest.mark.parametrize("release", ["0.4.0", "0.4.2"])
@pytest.mark.parametrize("name", ["Qwen35VLModelProvider", "Qwen35VLMoEModelProvider"])
def test_more_ranks_than_heads(install_release: Callable[[str], Path], release: str, name: str) -> None:
    install_release(release)
    provider = getattr(importlib.import_module(MODULE), name)()
    provider.tensor_model_parallel_size = 4
    with pytest.raises(ValueError, match="smaller TP size"):
        provider.validate_parallelism()
    mtp_bridge_patch.apply(only=["key-value-heads"])
    provider.validate_parallelism()
    provider.tensor_model_parallel_size = 3
    with pytest.raises(ValueError, match="smaller TP size"):
        provider.validate_parallelism()
    mtp_bridge_patch.revert()
    provider.tensor_model_parallel_size = 4
    with pytest.raises(ValueError, match="smaller TP size"):
        provider.validate_parallelism()

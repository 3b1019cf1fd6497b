"""The state-dict adapters of NeMo Automodel for Qwen3.5 and Qwen3.6."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nemo_automodel.components.models.common import BackendConfig
from nemo_automodel.components.models.qwen3_5.state_dict_adapter import Qwen3_5DenseStateDictAdapter
from nemo_automodel.components.models.qwen3_5_moe.state_dict_adapter import Qwen3_5MoeStateDictAdapter
from transformers import AutoConfig

from mtp_regression.adapters.state_dict import StateDictBridge


class NemoAutomodel(StateDictBridge):
    """`Qwen3_5MoeStateDictAdapter`, or that of dense models, without a device mesh."""

    bridge = "nemo-automodel"
    release = metadata.version("nemo-automodel")
    declared = resources.files(__package__).joinpath("nemo_automodel.toml")

    def to_native(self, tensors: dict[str, Any], checkpoint: Path) -> Mapping[str, Any]:
        """Convert through `from_hf`."""
        config = AutoConfig.from_pretrained(str(checkpoint)).get_text_config()
        if hasattr(config, "num_experts"):
            experts = {"n_routed_experts": config.num_experts, "moe_inter_dim": config.moe_intermediate_size}
            self._adapter = Qwen3_5MoeStateDictAdapter(
                *(config, SimpleNamespace(**experts), BackendConfig()),
                dtype=torch.bfloat16,
                pretrained_model_name_or_path=str(checkpoint),
            )
        else:
            self._adapter = Qwen3_5DenseStateDictAdapter()
        converted: Mapping[str, Any] = self._adapter.from_hf(tensors)
        return converted

    def from_native(self, native: dict[str, Any]) -> Mapping[str, Any]:
        """Convert through `to_hf`."""
        converted: Mapping[str, Any] = self._adapter.to_hf(native)
        return converted

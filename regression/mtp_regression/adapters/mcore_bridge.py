"""mcore-bridge of ModelScope, through which ms-swift loads and saves models of Megatron-Core."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any, ClassVar

from torch import distributed
from transformers import AutoConfig

from mtp_regression.adapters.megatron_core import MegatronCoreBridge  # before Megatron is imported
from mtp_regression.ranks.parallel import Parallel

from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config  # isort: skip


LAYOUTS = ("tp1", "tp2", "pp2", "pp2 vpp2", "ep2", "tp2 ep2", "tp2 etp2", "ep2 etp2")
"""A part of the grid that takes minutes; each way of splitting, and the pairs that meet in the experts."""


class McoreBridge(MegatronCoreBridge):
    """`GPTBridge`: `save_weights` for checkpoints, `export_weights` for inference engines."""

    bridge = "mcore-bridge"
    release = metadata.version("mcore-bridge")
    loggers = ("mcore_bridge",)
    vision = "huggingface"
    declared = resources.files(__package__).joinpath("mcore_bridge.toml")
    grid = tuple(Parallel.parse(layout) for layout in LAYOUTS)
    renamed: ClassVar[Mapping[str, str]] = {"visual.visual.": "vision_model."}

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        """Build the model as ms-swift does, with the checkpoint's MTP layers."""
        config = AutoConfig.from_pretrained(str(checkpoint))
        mtp = getattr(config.get_text_config(), "mtp_num_hidden_layers", 0) or None
        made = ModelConfig(mtp_num_layers=mtp, **self.config(parallel), **hf_to_mcore_config(config))
        self._bridge, self._config = made.bridge, checkpoint / "config.json"
        return get_mcore_model(made)

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint through `load_weights`."""
        self._bridge.load_weights(self.model, str(checkpoint))

    reload = load

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Export through `export_weights`."""
        yield from self._bridge.export_weights(self.model, target_device="cpu")

    def save(self, folder: Path) -> None:
        """Save through `save_weights`, which writes weights alone, and copy the configuration."""
        self._bridge.save_weights(self.model, str(folder))
        if distributed.get_rank() == 0:
            shutil.copy(self._config, folder)

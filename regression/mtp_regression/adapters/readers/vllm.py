"""vLLM as a reader: its classes of the whole model and of MTP, built on a CPU and loaded.

The wheel that is built for CUDA has no kernels for a CPU: nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import torch
import vllm.platforms
from torch import nn
from vllm.platforms.cpu import CpuPlatform

vllm.platforms._current_platform = CpuPlatform()  # before anything asks which platform there is

from vllm.config import LoadConfig, set_current_vllm_config  # noqa: E402
from vllm.distributed import (  # noqa: E402
    destroy_model_parallel,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts  # noqa: E402
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader  # noqa: E402
from vllm.model_executor.models import qwen3_5, qwen3_5_mtp  # noqa: E402
from vllm.utils.torch_utils import set_default_torch_dtype  # noqa: E402

from mtp_checkpoint.layouts.keys import (  # noqa: E402
    MTP_PREFIX,
    TEXT_ONLY_PREFIX,
    TEXT_PREFIX,
    VISION_PREFIX,
)
from mtp_regression.adapters.readers.reader import Reader  # noqa: E402
from mtp_regression.ranks.parallel import Parallel  # noqa: E402

CPUUnquantizedExperts.output_alignment = 1  # its kernels want multiples of 32, and are never run


class Vllm(Reader):
    """The class that the checkpoint names, and the one that a speculative decoder has for MTP."""

    bridge = "vllm"
    release = metadata.version("vllm")
    declared = resources.files(__package__).joinpath("vllm.toml")

    def build(self, checkpoint: Path, parallel: Parallel) -> nn.ModuleDict:
        """Build both, as for an engine without a tokenizer."""
        del parallel
        self._configuration = EngineArgs(
            model=str(checkpoint),
            dtype="bfloat16",
            enforce_eager=True,
            max_model_len=64,
            skip_tokenizer_init=True,
        ).create_engine_config()
        config = self._configuration.model_config
        named = config.hf_config.architectures[0]
        self._root = TEXT_ONLY_PREFIX if named.endswith("ForCausalLM") else TEXT_PREFIX
        models = {"main": getattr(qwen3_5, named)}
        if config.hf_text_config.mtp_num_hidden_layers:
            models["mtp"] = qwen3_5_mtp.Qwen3_5MoeMTP if "Moe" in named else qwen3_5_mtp.Qwen3_5MTP
        with set_current_vllm_config(self._configuration), set_default_torch_dtype(torch.bfloat16):
            init_distributed_environment(1, 0, "env://", 0, "gloo")
            initialize_model_parallel()
            return nn.ModuleDict(
                {name: model(vllm_config=self._configuration) for name, model in models.items()}
            )

    def load(self, checkpoint: Path) -> None:
        """Hand all tensors to each, and have vLLM's loader say what was not initialized."""
        with set_current_vllm_config(self._configuration):
            for model in self.model.values():
                loaded = model.load_weights(self.read(checkpoint))
                DefaultModelLoader(LoadConfig()).track_weights_loading(model, loaded)

    def close(self) -> None:
        """Leave the process to another engine."""
        destroy_model_parallel()

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Give them a checkpoint's names; MTP's own embedding and output layer only if they are not alike."""
        return self.held(
            {
                "main.visual.": VISION_PREFIX,
                "main.language_model.model.": TEXT_PREFIX,
                "main.language_model.": "",
                "main.": "",
                "mtp.lm_head.": "lm_head.",
                "mtp.model.embed_tokens.": f"{self._root}embed_tokens.",
                "mtp.model.": MTP_PREFIX,
            }
        )

"""SGLang as a reader: its classes of the whole model and of MTP, built on a CPU and loaded.

The wheel that is built for CUDA has no kernels for a CPU: nothing is computed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

for _name in ("vllm", "vllm._custom_ops"):  # where rotary embeddings want vLLM's kernel, which is never run
    sys.modules.setdefault(_name, ModuleType(_name)).__dict__.setdefault("rotary_embedding", None)

from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.distributed.parallel_state import (  # noqa: E402
    destroy_model_parallel,
    init_distributed_environment,
    initialize_model_parallel,
)
from sglang.srt.layers.dp_attention import initialize_dp_attention  # noqa: E402
from sglang.srt.model_loader.utils import set_default_torch_dtype  # noqa: E402
from sglang.srt.models import qwen3_5, qwen3_5_text  # noqa: E402
from sglang.srt.models.qwen3_5_mtp import Qwen3_5ForCausalLMMTP  # noqa: E402
from sglang.srt.runtime_context import SpawnRanks, publish  # noqa: E402
from sglang.srt.server_args import ServerArgs  # noqa: E402

from mtp_checkpoint.layouts.keys import (  # noqa: E402
    MTP_PREFIX,
    TEXT_ONLY_PREFIX,
    TEXT_PREFIX,
    VISION_PREFIX,
)
from mtp_regression.adapters.readers.reader import Reader  # noqa: E402
from mtp_regression.ranks.parallel import Parallel  # noqa: E402


class Sglang(Reader):
    """The class that the checkpoint names, and the one that a speculative decoder has for MTP."""

    bridge = "sglang"
    release = metadata.version("sglang")
    declared = resources.files(__package__).joinpath("sglang.toml")

    def build(self, checkpoint: Path, parallel: Parallel) -> nn.ModuleDict:
        """Build both, as for an engine without a tokenizer."""
        del parallel
        arguments = ServerArgs(
            model_path=str(checkpoint),
            device="cpu",
            dtype="bfloat16",
            attention_backend="torch_native",
            disable_cuda_graph=True,
            disable_radix_cache=True,
            skip_tokenizer_init=True,
        )
        publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0))
        init_distributed_environment(
            backend="gloo", world_size=1, rank=0, local_rank=0, distributed_init_method="env://"
        )
        initialize_model_parallel()
        model_config = ModelConfig.from_server_args(arguments)
        initialize_dp_attention(model_config)
        config = model_config.hf_config
        named = config.architectures[0]
        text_only = named.endswith("ForCausalLM")
        self._root = TEXT_ONLY_PREFIX if text_only else TEXT_PREFIX
        models = {"main": getattr(qwen3_5_text if text_only else qwen3_5, named)}
        if getattr(config, "text_config", config).mtp_num_hidden_layers:
            models["mtp"] = Qwen3_5ForCausalLMMTP
        with set_default_torch_dtype(torch.bfloat16):
            return nn.ModuleDict({name: model(config) for name, model in models.items()})

    def load(self, checkpoint: Path) -> None:
        """Hand all tensors to each; MTP then has the model's embedding and output layer, as served."""
        for model in self.model.values():
            model.load_weights(self.read(checkpoint))
        if "mtp" in self.model:
            main = self.model["main"]
            self.model["mtp"].set_embed_and_head(main.model.embed_tokens.weight, main.lm_head.weight)

    def close(self) -> None:
        """Leave the process to another engine."""
        destroy_model_parallel()

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Give them a checkpoint's names; those of attention lack `self_attn`."""
        names = {
            "main.visual.": VISION_PREFIX,
            "main.model.": self._root,
            "main.": "",
            "mtp.model.embed_tokens.": f"{self._root}embed_tokens.",
            "mtp.model.": MTP_PREFIX,
            "mtp.lm_head.": "lm_head.",
            "mtp.": MTP_PREFIX,
        }
        for name, tensor in self.held(names):
            if name.startswith(VISION_PREFIX):
                yield name.replace(".attn.qkv_proj.", ".attn.qkv."), tensor
                continue
            above, _, last = name.removesuffix(".weight").rpartition(".")
            own = last in _ATTENTION and above.rpartition(".")[2].isdecimal()
            yield (f"{above}.self_attn.{last}.weight" if own else name), tensor


_ATTENTION = ("qkv_proj", "o_proj", "q_norm", "k_norm")

"""Saving a folder without the checkpoint at hand, which 0.4.x refuses; part of ``config-only-export``."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtp_bridge_patch.fixes.fp8.quantization_config import unquantized
from mtp_bridge_patch.releases import is_installed_before
from mtp_bridge_patch.upstream.hooks import Save
from mtp_checkpoint.files.index import INDEX_NAME


def save(call: Save, proceed: Callable[[], Any]) -> Any:
    """Save a model of which there is a config alone, with 0.4.x; every other as upstream does."""
    if hasattr(call.pretrained, "state") or not is_installed_before("0.5.0"):
        return proceed()
    return _save(call.owner, call.arguments["model"], Path(call.arguments["path"]))


def _save(auto_bridge: Any, model: Any, folder: Path) -> None:
    """Write config and weights from rank 0; every rank takes part. All weights are held in memory."""
    import torch.distributed as dist

    is_writer = not dist.is_initialized() or dist.get_rank() == 0
    weights = {}
    for name, tensor in auto_bridge.export_hf_weights(model, cpu=True, show_progress=False):
        if is_writer:
            weights[name] = tensor.contiguous()
    if is_writer:
        _write(weights, auto_bridge.hf_pretrained, folder)
    if dist.is_initialized():
        dist.barrier()


def _write(weights: dict[str, Any], config: Any, folder: Path) -> None:
    hub = importlib.import_module("huggingface_hub")
    safetensors = importlib.import_module("safetensors.torch")
    folder.mkdir(parents=True, exist_ok=True)
    with unquantized(config):  # the weights are in the model's dtype
        config.save_pretrained(folder)
    plan = hub.split_torch_state_dict_into_shards(weights)
    for file_name, names in plan.filename_to_tensors.items():
        shard = {name: weights[name] for name in names}
        safetensors.save_file(shard, folder / file_name, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2), encoding="utf-8")

"""Bridges that save right weights, and make one mistake in what is beside them."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from mtp_regression.adapters.megatron_bridge import MegatronBridge


class SavesOtherFiles(MegatronBridge):
    """Changes something beside the weights in what it has saved."""

    def save(self, folder: Path, **options: Any) -> None:
        super().save(folder, **options)
        if torch.distributed.get_rank() == 0:
            self.change(folder)

    def change(self, folder: Path) -> None:
        raise NotImplementedError

    def set(self, folder: Path, **fields: Any) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] |= fields
        (folder / "config.json").write_text(json.dumps(config))


class DeclaresNoMtp(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        self.set(folder, mtp_num_hidden_layers=0)


class SavesAnotherTopK(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        self.set(folder, num_experts_per_tok=3)


class SavesAnotherEpsilon(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        self.set(folder, rms_norm_eps=1e-5)


class LosesTheTokenizer(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()


class LosesTheChatTemplate(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        (folder / "chat_template.jinja").write_text("{{ messages }}")


class WritesAnotherSize(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        index["metadata"]["total_size"] += 1
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


class LeavesAnOldShard(SavesOtherFiles):
    def change(self, folder: Path) -> None:
        shard = next(folder.glob("*.safetensors"))
        shutil.copy(shard, folder / "model-of-yesterday.safetensors")


class SavesTheTime(SavesOtherFiles):
    """Writes two saves of one model in two ways."""

    def change(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps(config | {"transformers_version": str(time.time_ns())})
        )

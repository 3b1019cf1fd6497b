"""Megatron-Bridge, used in other ways than a plain load and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
from huggingface_hub import constants
from transformers import AutoConfig

from mtp_bridge_patch.releases import is_at_least
from mtp_regression.adapters.megatron_bridge import MegatronBridge, Patched

_VOCAB_DIVISOR = 384
"""Does not divide the tiny vocabulary's 640 tokens."""


class SequentialExperts(MegatronBridge):
    """Routed experts are held one by one (SequentialMLP), not grouped."""

    def configure(self, provider: Any) -> None:
        """Ask for SequentialMLP."""
        provider.moe_grouped_gemm = False


class ConfigOnly(MegatronBridge):
    """The export has the checkpoint's config, not the checkpoint."""

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint, then forget it."""
        super().load(checkpoint)
        self._auto = self.bridge_for_export(checkpoint)

    def bridge_for_export(self, checkpoint: Path) -> Any:
        """Make it of the config alone."""
        from megatron.bridge import AutoBridge  # once the stand-in for TransformerEngine is in its place

        return AutoBridge.from_hf_config(AutoConfig.from_pretrained(str(checkpoint)))


class ExportOnDevice(MegatronBridge):
    """What is exported stays on the device that the model is on."""

    export_to_cpu = False


class PaddedVocabulary(MegatronBridge):
    """Embedding and output layer have more rows than the checkpoint's."""

    def configure(self, provider: Any) -> None:
        """Ask for padding, which vision-language models of 0.4.x and 0.5.x do not know."""
        provider.should_pad_vocab = True
        provider.make_vocab_size_divisible_by = _VOCAB_DIVISOR
        padded = is_at_least(self.release, "0.6.0") or not hasattr(provider, "vision_config")
        self.vocab_divisor = _VOCAB_DIVISOR if padded else 1


class WithoutMtp(MegatronBridge):
    """MTP is switched off before the model is built, as for reinforcement learning."""

    without_mtp = True

    def configure(self, provider: Any) -> None:
        """Ask for no MTP, whatever the checkpoint has."""
        provider.mtp_num_layers = None


class OwnFolders(MegatronBridge):
    """Every rank saves its part into a folder of its own; then the files are put together."""

    def save(self, folder: Path, **options: Any) -> None:
        """Save on a disk of the rank's own, as it were, and move what is there."""
        own = folder.with_name(f"{folder.name}-of-rank{dist.get_rank()}")
        own.mkdir()
        super().save(own, distributed_save=True, **options)
        folder.mkdir(exist_ok=True)
        for file in own.iterdir():
            file.rename(folder / file.name)
        own.rmdir()


class RepeatedMtp(MegatronBridge):
    """The model uses its MTP layer three times, one after the other."""

    def configure(self, provider: Any) -> None:
        """Ask for it."""
        provider.mtp_num_layers = 3
        provider.mtp_use_repeated_layer = True


class AddedMtp(MegatronBridge):
    """The model has an MTP layer, which the checkpoint need not have."""

    def configure(self, provider: Any) -> None:
        """Ask for one."""
        provider.mtp_num_layers = 1


class PinnedRevision(MegatronBridge):
    """The checkpoint is a commit in a cache of huggingface_hub, asked for by the names of both, offline."""

    _offline: Any = None

    def asked_for(self, checkpoint: Path) -> dict[str, Any]:
        """Name the repository whose folder `snapshots` the checkpoint is in."""
        if checkpoint.parent.name != "snapshots":
            if self._offline is None:
                raise ValueError(f"{checkpoint} is no commit: `mtpkit generate --hub-cache` makes one")
            return super().asked_for(checkpoint)  # what is loaded into the model later
        repo = checkpoint.parents[1]
        if self._offline is None:
            cache = {"HF_HUB_CACHE": str(repo.parent), "HF_HUB_OFFLINE": True}
            self._offline = mock.patch.dict(vars(constants), cache)
            self._offline.start()
        return {"path": repo.name.removeprefix("models--").replace("--", "/"), "revision": checkpoint.name}

    def close(self) -> None:
        """Give back the cache that was there before, too."""
        if self._offline is not None:
            self._offline.stop()
        super().close()


class PatchedSequentialExperts(Patched, SequentialExperts):
    """The patched bridge, with SequentialMLP."""


class PatchedPaddedVocabulary(Patched, PaddedVocabulary):
    """The patched bridge, with a padded vocabulary."""


class PatchedRepeatedMtp(Patched, RepeatedMtp):
    """The patched bridge, with an MTP layer that is used three times."""


class PatchedAddedMtp(Patched, AddedMtp):
    """The patched bridge, with an MTP layer that the checkpoint need not have."""


class PatchedConfigOnly(Patched, ConfigOnly):
    """The patched bridge, which exports without the checkpoint."""


class PatchedOwnFolders(Patched, OwnFolders):
    """The patched bridge, every rank saving into a folder of its own."""


class PatchedWithoutMtp(Patched, WithoutMtp):
    """The patched bridge, with MTP switched off."""


class PatchedPinnedRevision(Patched, PinnedRevision):
    """The patched bridge, which asks for a commit."""

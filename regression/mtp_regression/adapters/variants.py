"""Megatron-Bridge, used in other ways than a plain load and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from mtp_bridge_patch.releases import is_at_least
from mtp_regression.adapters.megatron_bridge import MegatronBridge, Patched
from mtp_regression.ranks.parallel import Parallel

_VOCAB_DIVISOR = 384
"""Does not divide the tiny vocabulary's 640 tokens."""


class SequentialExperts(MegatronBridge):
    """Routed experts are held one by one (SequentialMLP), not grouped."""

    def configure(self, provider: Any) -> None:
        """Ask for SequentialMLP."""
        provider.moe_grouped_gemm = False


class ConfigOnly(MegatronBridge):
    """The export has the checkpoint's config, not the checkpoint."""

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        """Load the checkpoint, then forget it."""
        from megatron.bridge import AutoBridge  # once the stand-in for TransformerEngine is in its place

        super().load(checkpoint, parallel)
        self._auto = AutoBridge.from_hf_config(AutoConfig.from_pretrained(str(checkpoint)))


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

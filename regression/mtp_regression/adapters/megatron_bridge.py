"""NVIDIA Megatron-Bridge, 0.4.x to 0.6.x."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch

import mtp_bridge_patch
from mtp_checkpoint.layouts.keys import Block
from mtp_regression.adapters import DECLARED_OF_MEGATRON_BRIDGE, USES_OF_MEGATRON_BRIDGE, patched_uses
from mtp_regression.deferred.imports import deferring
from mtp_regression.ranks.parallel import Parallel

_AT_WORK = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "transformers.models.qwen3_5.tokenization_qwen3_5",
    "transformers.models.qwen3_5.modeling_qwen3_5",
    "transformers.models.qwen3_5_moe.modeling_qwen3_5_moe",
    "transformers.models.qwen3_vl.processing_qwen3_vl",
    "transformers.models.qwen3_vl.video_processing_qwen3_vl",
    "transformers.tokenization_mistral_common",
)
"""Wanted only at work, by every rank of every case: half a second that the fork server can spend once."""

with deferring():
    from mtp_regression.adapters.megatron_core import MegatronCoreBridge  # before Megatron is imported
    from mtp_regression.megatron import model as megatron_model
    from mtp_regression.megatron.cpu import checkpointing_on_cpu

    from megatron.bridge import AutoBridge  # isort: skip

    for _module in _AT_WORK:
        # Releases of transformers differ in which of them they have; in 5.3 the last lacks a name.
        with suppress(ImportError, NameError):
            importlib.import_module(_module)


class MegatronBridge(MegatronCoreBridge):
    """The bridge as it is installed: `AutoBridge` over a checkpoint folder."""

    bridge = "megatron-bridge"
    loggers = ("megatron.bridge",)
    declared = DECLARED_OF_MEGATRON_BRIDGE
    uses = USES_OF_MEGATRON_BRIDGE
    built_twice: ClassVar[Collection[Block]] = (Block.DECODER, Block.VISION)
    export_to_cpu = True

    def __init__(self) -> None:
        super().__init__()
        self.release = metadata.version("megatron-bridge")
        self._tensor_of: Callable[[str], Any] | None = None

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        """Put `tensor_of` in the place of the reader of safetensors files."""
        self._tensor_of = tensor_of

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        """Build the model on this rank."""
        self._auto = self._with(checkpoint)
        if self._tensor_of is not None:
            _read_from(self._auto.hf_pretrained.state.source, self._tensor_of)
        provider = megatron_model.provider(self._auto, parallel, self.configure)
        on_cpu = not torch.cuda.is_available()
        return provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=on_cpu)

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint with the bridge that has built the model."""
        del checkpoint
        self._auto.load_hf_weights(self.model)

    def reload(self, checkpoint: Path) -> None:
        """Load another checkpoint, with a bridge of its own."""
        self._auto = self._with(checkpoint)
        self._auto.load_hf_weights(self.model)

    def logits(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model's own forward pass, through modules that compute on a CPU."""
        from mtp_regression.megatron.forward import logits

        return logits(self.model, batch)

    def save_megatron(self, folder: Path) -> None:
        """Save through `save_megatron_model`."""
        with checkpointing_on_cpu():
            self._auto.save_megatron_model(self.model, str(folder))

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> Any:
        """Load through `load_megatron_model`, which builds the model by the checkpoint's own config."""
        self._auto = self.bridge_for_export(checkpoint)
        sizes, cut = megatron_model.sizes_and_cut(parallel)
        with checkpointing_on_cpu(), megatron_model.nan_where_uninitialized():
            return self._auto.load_megatron_model(str(folder), mp_overrides=sizes | cut, wrap_with_ddp=False)

    def bridge_for_export(self, checkpoint: Path) -> Any:
        """Make the `AutoBridge` that exports; a variant makes another."""
        return self._with(checkpoint)

    def asked_for(self, checkpoint: Path) -> dict[str, Any]:
        """Say by what `from_hf_pretrained` is to find a checkpoint; a variant names it otherwise."""
        return {"path": str(checkpoint)}

    def configure(self, provider: Any) -> None:
        """Change the model that is to be built; a variant of the adapter does."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Export through `export_hf_weights`."""
        yield from self._auto.export_hf_weights(self.model, cpu=self.export_to_cpu, show_progress=False)

    def save(self, folder: Path, **options: Any) -> None:
        """Export through `save_hf_pretrained`, with options of its own."""
        self._auto.save_hf_pretrained(self.model, str(folder), show_progress=False, **options)

    def conversion_tasks(self) -> list[Any]:
        """Return the bridge's tasks: which parameter of this rank it converts from which keys."""
        tasks: list[Any] = self._auto.get_conversion_tasks(self.model)
        return tasks

    def _with(self, checkpoint: Path) -> Any:
        return AutoBridge.from_hf_pretrained(**self.asked_for(checkpoint), torch_dtype=torch.bfloat16)


class Patched:
    """Makes an adapter's bridge the one that `mtp_bridge_patch.apply()` leaves."""

    release: str
    built_twice: ClassVar[Collection[Block]] = (Block.VISION,)

    def __init__(self) -> None:
        super().__init__()
        mtp_bridge_patch.apply()
        self.release += "+patch"

    def close(self) -> None:
        """Revert the patch, and give back what `load` took."""
        super().close()  # type: ignore[misc]
        mtp_bridge_patch.revert()


class PatchedMegatronBridge(Patched, MegatronBridge):
    """The patched bridge."""

    uses = patched_uses()


def _read_from(source: Any, tensor_of: Callable[[str], Any]) -> None:
    """Have upstream's `SafeTensorsStateSource` make tensors; keys and files are still those of its folder."""
    source.load_tensors = lambda keys: {key: tensor_of(key) for key in keys}

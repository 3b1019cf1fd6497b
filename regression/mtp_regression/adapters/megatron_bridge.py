"""NVIDIA Megatron-Bridge, 0.4.x to 0.6.x."""

from __future__ import annotations

import importlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers  # noqa: F401 - before cuda_on_cpu is used, see there

import mtp_bridge_patch
from mtp_regression.megatron import te_standin
from mtp_regression.megatron.cpu import checkpointing_on_cpu, cuda_on_cpu
from mtp_regression.ranks.parallel import Coordinates, Parallel

te_standin.install()

from megatron.bridge import AutoBridge  # noqa: E402 - it looks for TransformerEngine
from megatron.core import parallel_state  # noqa: E402

from mtp_regression.megatron import model as megatron_model  # noqa: E402

for _module in (
    "transformers.models.auto.modeling_auto",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "transformers.models.qwen3_5.tokenization_qwen3_5",
    "transformers.models.qwen3_5.modeling_qwen3_5",
    "transformers.models.qwen3_5_moe.modeling_qwen3_5_moe",
    "transformers.models.qwen3_vl.processing_qwen3_vl",
    "transformers.models.qwen3_vl.video_processing_qwen3_vl",
    "transformers.tokenization_mistral_common",
):
    # Wanted only at work, by every rank of every case: half a second that the fork server can spend
    # once. Releases of transformers differ in which of them they have; in 5.3 the last lacks a name.
    with suppress(ImportError, NameError):
        importlib.import_module(_module)


class MegatronBridge:
    """The bridge as it is installed: `AutoBridge` over a checkpoint folder."""

    bridge = "megatron-bridge"
    export_to_cpu = True

    def __init__(self) -> None:
        self.release = metadata.version("megatron-bridge")
        self.engine = f"TransformerEngine {te_standin.describe()}"
        self._warnings = _WarningCollector()
        logging.getLogger("megatron.bridge").addHandler(self._warnings)
        self._tensor_of: Callable[[str], Any] | None = None

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        """Put `tensor_of` in the place of the reader of safetensors files."""
        self._tensor_of = tensor_of

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model on this rank, poison it, load the checkpoint."""
        self.build(checkpoint, parallel)
        with cuda_on_cpu():  # replicated parameters are sent by way of the current GPU
            self._auto.load_hf_weights(self._chunks)

    def build(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model on this rank, every parameter NaN."""
        self._auto = self._with(checkpoint)
        if self._tensor_of is not None:
            _read_from(self._auto.hf_pretrained.state.source, self._tensor_of)
        provider = megatron_model.provider(self._auto, parallel, self.configure)
        on_cpu = not torch.cuda.is_available()
        with cuda_on_cpu():
            self._chunks = provider.provide_distributed_model(
                wrap_with_ddp=False, use_cpu_initialization=on_cpu
            )
        with torch.no_grad():
            for chunk in self._chunks:
                for parameter in chunk.parameters():
                    parameter.fill_(math.nan)

    def reload(self, checkpoint: Path) -> None:
        """Load another checkpoint, with a bridge of its own."""
        self._auto = self._with(checkpoint)
        with cuda_on_cpu():
            self._auto.load_hf_weights(self._chunks)

    def logits(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model's own forward pass, through modules that compute on a CPU."""
        from mtp_regression.megatron.forward import logits

        return logits(self._chunks, batch)

    def save_megatron(self, folder: Path) -> None:
        """Save through `save_megatron_model`."""
        with checkpointing_on_cpu():
            self._auto.save_megatron_model(self._chunks, str(folder))

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> None:
        """Load through `load_megatron_model`, which builds the model by the checkpoint's own config."""
        self._auto = self.bridge_for_export(checkpoint)
        sizes, cut = megatron_model.sizes_and_cut(parallel)
        parallel_state.initialize_model_parallel(**sizes)
        with checkpointing_on_cpu(), megatron_model.nan_where_uninitialized():
            self._chunks = self._auto.load_megatron_model(
                str(folder), mp_overrides=sizes | cut, wrap_with_ddp=False
            )

    def bridge_for_export(self, checkpoint: Path) -> Any:
        """Make the `AutoBridge` that exports; a variant makes another."""
        return self._with(checkpoint)

    def asked_for(self, checkpoint: Path) -> dict[str, Any]:
        """Say by what `from_hf_pretrained` is to find a checkpoint; a variant names it otherwise."""
        return {"path": str(checkpoint)}

    def configure(self, provider: Any) -> None:
        """Change the model that is to be built; a variant of the adapter does."""

    def coordinates(self) -> Coordinates:
        """Ask Megatron-Core's parallel state."""
        return megatron_model.coordinates()

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of every model chunk, without the wrappers' prefixes."""
        for number, chunk in enumerate(self._chunks):
            for name, parameter in chunk.named_parameters():
                yield f"{number}/{_WRAPPERS.sub('', name).replace('.mtp_model_layer.', '.')}", parameter

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Export through `export_hf_weights`."""
        yield from self._auto.export_hf_weights(self._chunks, cpu=self.export_to_cpu, show_progress=False)

    def save(self, folder: Path, **options: Any) -> None:
        """Export through `save_hf_pretrained`, with options of its own."""
        with cuda_on_cpu():
            self._auto.save_hf_pretrained(self._chunks, str(folder), show_progress=False, **options)

    def conversion_tasks(self) -> list[Any]:
        """Return the bridge's tasks: which parameter of this rank it converts from which keys."""
        tasks: list[Any] = self._auto.get_conversion_tasks(self._chunks)
        return tasks

    def warnings(self) -> list[str]:
        """Return the messages that the bridge's loggers gave at WARNING or above."""
        return list(self._warnings.messages)

    def close(self) -> None:
        """Destroy the model-parallel groups."""
        logging.getLogger("megatron.bridge").removeHandler(self._warnings)
        parallel_state.destroy_model_parallel()

    def _with(self, checkpoint: Path) -> Any:
        return AutoBridge.from_hf_pretrained(**self.asked_for(checkpoint), torch_dtype=torch.bfloat16)


class Patched:
    """Makes an adapter's bridge the one that `mtp_bridge_patch.apply()` leaves."""

    release: str

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


def _read_from(source: Any, tensor_of: Callable[[str], Any]) -> None:
    """Have upstream's `SafeTensorsStateSource` make tensors; keys and files are still those of its folder."""
    source.load_tensors = lambda keys: {key: tensor_of(key) for key in keys}


_WRAPPERS = re.compile(r"^(module\.)*(language_model\.)?")


class _WarningCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

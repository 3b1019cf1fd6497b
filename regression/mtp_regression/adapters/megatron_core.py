"""The common half of bridges whose model is Megatron-Core's."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
import transformers  # noqa: F401 - before cuda_on_cpu is used, see there

from mtp_regression.megatron import te_standin
from mtp_regression.megatron.cpu import cuda_on_cpu
from mtp_regression.ranks.parallel import Coordinates, Parallel

te_standin.install()

from megatron.core import parallel_state  # noqa: E402 - it looks for TransformerEngine

from mtp_regression.megatron import model as megatron_model  # noqa: E402


class MegatronCoreBridge:
    """What an adapter of a bridge to Megatron-Core's models does not have to write.

    That is a stand-in for TransformerEngine, in its place once this module is imported; an answer to all
    that is asked of CUDA, on a machine without a GPU, while a role runs; the model-parallel groups, which are
    there when `build` is called; the parameters' names; the place of the rank; and the bridge's warnings.

    A subclass has the name of the bridge, `bridge`, and

    - `build(checkpoint, parallel)`, which returns the model chunks of the rank, a list of `torch.nn.Module`s,
    - `load(checkpoint)`, which fills them: they are `self.model`,
    - `stream()`, `save(folder)`, or both.

    A configuration of Megatron-Core (`TransformerConfig`) is to have the values of `config(parallel)`.

    Attributes:
        loggers: Names of the loggers whose warnings are the bridge's; "" is every logger's parent, and takes
            what goes through Python's `warnings` as well.
    """

    bridge: str
    loggers: ClassVar[Sequence[str]] = ("",)

    model: Sequence[torch.nn.Module]

    def __init__(self) -> None:
        self.engine = f"TransformerEngine {te_standin.describe()}"
        self._warnings = _WarningCollector()
        for name in self.loggers:
            logging.getLogger(name).addHandler(self._warnings)
        if "" in self.loggers:
            logging.captureWarnings(True)
            warnings.simplefilter("default")

    def running(self) -> AbstractContextManager[None]:
        """Answer for CUDA, where there is none."""
        return cuda_on_cpu()

    def start(self, parallel: Parallel) -> None:
        """Make the model-parallel groups."""
        megatron_model.initialize(parallel)

    def config(self, parallel: Parallel) -> Mapping[str, Any]:
        """Return values of `TransformerConfig`: the layout's, and what building a model on a CPU takes."""
        sizes, cut = megatron_model.sizes_and_cut(parallel)
        on_cpu = {"use_cpu_initialization": not torch.cuda.is_available()}
        return {**sizes, **cut, **megatron_model.FOR_A_CONVERSION, **on_cpu}

    def coordinates(self) -> Coordinates:
        """Ask Megatron-Core's parallel state."""
        return megatron_model.coordinates()

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of every model chunk, without the wrappers' prefixes."""
        for number, chunk in enumerate(self.model):
            for name, parameter in chunk.named_parameters():
                yield f"{number}/{_WRAPPERS.sub('', name).replace('.mtp_model_layer.', '.')}", parameter

    def warnings(self) -> list[str]:
        """Return the messages that the loggers gave at WARNING or above."""
        return list(self._warnings.messages)

    def close(self) -> None:
        """Destroy the model-parallel groups."""
        for name in self.loggers:
            logging.getLogger(name).removeHandler(self._warnings)
        parallel_state.destroy_model_parallel()


_WRAPPERS = re.compile(r"^(module\.)*(language_model\.)?")


class _WarningCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

"""Bridges that take every tensor through a narrower format, on import or on export, and back where they can.

They are adapters, which ranks import by name. What they lose is in the special values alone, but for FP8.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from lossy_changes import CHANGES, Change, bf16
from saboteurs import ExportSaboteur

from mtp_regression.adapters.megatron_bridge import MegatronBridge, Patched


class OnImport(MegatronBridge):
    """Changes what the bridge reads of the checkpoint while it loads."""

    change: ClassVar[Change]

    def load(self, checkpoint: Path) -> None:
        from megatron.bridge.models.hf_pretrained.state import SafeTensorsStateSource

        upstream = SafeTensorsStateSource.load_tensors

        def changed(source: Any, keys: list[str]) -> dict[str, torch.Tensor]:
            return {key: type(self).change(tensor) for key, tensor in upstream(source, keys).items()}

        with patch.object(SafeTensorsStateSource, "load_tensors", changed):
            super().load(checkpoint)


class OnExport(ExportSaboteur):
    """Changes the stream that both exports draw from."""

    change: ClassVar[Change]

    def corrupt(self, stream: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in stream:
            yield name, type(self).change(tensor)


class PatchedBf16OnExport(Patched, OnExport):
    """The patched bridge, which exports in the dtype of the checkpoint, without that."""

    change: ClassVar[Change] = staticmethod(bf16)


for _name, _change in CHANGES.items():
    for _base in (OnImport, OnExport):
        globals()[_name + _base.__name__] = type(
            _name + _base.__name__, (_base,), {"change": staticmethod(_change), "__module__": __name__}
        )

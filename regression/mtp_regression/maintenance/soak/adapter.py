"""Megatron-Bridge, failing as the name of the class says: "stream_kill_1_7" is a class of this module.

See `failure.Failure`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch.distributed as dist

from mtp_bridge_patch.upstream.replacing import replaced
from mtp_regression.adapters.megatron_bridge import MegatronBridge, PatchedMegatronBridge
from mtp_regression.maintenance.soak.failure import Failure


class DrawnError(Exception):
    """The failure of kind "raise"."""


def __getattr__(name: str) -> type[MegatronBridge]:
    failure = Failure.parse(name)
    if failure is None:
        raise AttributeError(name)
    base = PatchedMegatronBridge if failure.patched else MegatronBridge
    return type(name, (_Failing, base), {"failure": failure})


class _Failing(MegatronBridge):
    failure: Failure
    _loaded = False

    def load(self, checkpoint: Path) -> None:
        """Fail before or after the load."""
        self._loaded = True
        self._around("load", super().load, checkpoint)

    def reload(self, checkpoint: Path) -> None:
        """Fail before or after a second load."""
        self._around("reload", super().reload, checkpoint)

    def save(self, folder: Path, **options: Any) -> None:
        """Fail before or after the folder is saved, or in the middle of a file."""
        if self.failure.kind != "torn":
            return self._around("save", super().save, folder, **options)
        with replaced(safetensors.torch, "save_file", self._torn):
            return super().save(folder, **options)

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Fail between two parameters, but not before the load: the suite fills them with NaN."""
        parameters = super().parameters()
        yield from self._among("parameters", parameters) if self._loaded else parameters

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Fail between two tensors."""
        yield from self._among("stream", super().stream())

    def _around(self, place: str, method: Any, *args: Any, **kwargs: Any) -> None:
        self._fail(place, 0)
        method(*args, **kwargs)
        self._fail(place, self.failure.after or -1)

    def _among(self, place: str, items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for number, item in enumerate(items):
            self._fail(place, number)
            yield item

    def _fail(self, place: str, after: int) -> None:
        failure = self.failure
        if (place, dist.get_rank(), after) != (failure.place, failure.rank, failure.after):
            return
        match failure.kind:
            case "raise":
                raise DrawnError(str(failure))
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                while True:
                    time.sleep(60)

    def _torn(self, tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> None:
        content = safetensors.torch.save(tensors, *args, **kwargs)
        Path(filename).write_bytes(content[: len(content) // 2])
        if dist.get_rank() == self.failure.rank:
            os.kill(os.getpid(), signal.SIGKILL)

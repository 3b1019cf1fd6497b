"""Adapters over the in-memory bridge, for tests of the suite that need no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.ranks.parallel import Parallel

FC = "mtp.fc.weight"


class ReversesRows(InMemoryBridge):
    """Streams one matrix upside down; what it saves is right."""

    bridge = "reverses-rows"

    def stream(self) -> Iterator[tuple[str, Any]]:
        for key, tensor in super().stream():
            yield key, tensor[::-1].copy() if key == FC else tensor


class Declares(ReversesRows):
    """Says so."""

    declared: ClassVar[Any] = {
        f"*::stream {FC}": "rows are reversed",
        f"*::re[tl]* {FC}": "rows are reversed",
    }


class DeclaresTooMuch(Declares):
    """Says so of the saved folder as well, which is right."""

    declared: ClassVar[Any] = Declares.declared | {f"*::saved {FC}": "rows are reversed"}


class DeclaresNoCheck(Declares):
    declared: ClassVar[Any] = Declares.declared | {"packed-tp3::stream": "three ranks"}


class DeclaresWithoutReason(Declares):
    declared: ClassVar[Any] = {"*::stream": " "}


class YieldsTwice(InMemoryBridge):
    """Streams one tensor twice, and one that the checkpoint does not have, on two pipeline stages alone."""

    bridge = "yields-twice"
    declared: ClassVar[Any] = {
        "*-pp2::stream *.extra": "not the checkpoint's",
        "*-pp2::stream model.language_model.embed_tokens.weight": "the copy of MTP's stage",
    }

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        self.parallel = parallel
        return super().build(checkpoint, parallel)

    def stream(self) -> Iterator[tuple[str, Any]]:
        for key, tensor in super().stream():
            yield key, tensor
            if self.parallel.pp > 1 and key.endswith("embed_tokens.weight"):
                yield key, tensor
                yield f"{key}.extra", tensor


class CannotSave(InMemoryBridge):
    """Raises where it saves."""

    bridge = "cannot-save"
    declared: ClassVar[Any] = {f"*::{stage}": "nobody saves" for stage in ("saved", "files", "re[tl]*")}

    def save(self, folder: Path) -> None:
        raise OSError(f"no room for {folder.name}")


class StreamsAlone(InMemoryBridge):
    """Has neither a save nor a second load, and is used in one way."""

    bridge = "streams-alone"
    uses: ClassVar[Any] = {}
    save = reload = save_megatron = load_megatron = None  # type: ignore[assignment]


class OtherNames(InMemoryBridge):
    """Calls the router by another name."""

    bridge = "other-names"

    def parameters(self) -> Iterator[tuple[str, Any]]:
        for name, parameter in super().parameters():
            yield name.replace("/decoder.", "/trunk."), parameter


class OtherNamesTold(OtherNames):
    renamed: ClassVar[Any] = {"trunk.": "decoder."}


class OneRankHangs(InMemoryBridge):
    """Waits for ever on its second rank, and the first for it."""

    bridge = "one-rank-hangs"

    def load(self, checkpoint: Path) -> None:
        import threading

        if self.world.rank == 1:
            threading.Event().wait()
        super().load(checkpoint)

"""The common half of converters that take a dict of tensors and give another, and know nothing of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.parallel import Parallel


class StateDictBridge:
    """What an adapter of such a converter does not have to write.

    A subclass has the name of the bridge, `bridge`, and the two directions, `to_native` and `from_native`.
    The suite reads the checkpoint. There is one rank, and it is a thread: nothing is forked, and no process
    group is made.

    Attributes:
        framework: Whether tensors are `torch.Tensor`s or numpy arrays; BF16 and FP8 arrays have the dtypes of
            `ml_dtypes`.
    """

    bridge: str
    ranks = "threads"
    grid: ClassVar[Sequence[Parallel]] = (Parallel(),)
    framework: ClassVar[Literal["torch", "numpy"]] = "torch"

    model: dict[str, Any]

    def to_native(self, tensors: dict[str, Any], checkpoint: Path) -> Mapping[str, Any]:
        """Convert a checkpoint's tensors, by key, into those of the bridge's own model, by name.

        Args:
            tensors: All of the checkpoint's, which may be changed.
            checkpoint: The folder, which has `config.json`.
        """
        raise NotImplementedError

    def from_native(self, native: dict[str, Any]) -> Mapping[str, Any]:
        """Convert the tensors of the bridge's own model back into a checkpoint's."""
        raise NotImplementedError

    def build(self, checkpoint: Path, parallel: Parallel) -> dict[str, Any]:
        """Hold nothing yet."""
        del checkpoint, parallel
        return {}

    def load(self, checkpoint: Path) -> None:
        """Convert a checkpoint."""
        raw = read_folder(checkpoint)
        if self.framework == "numpy":
            tensors = {name: tensor.array().copy() for name, tensor in raw.items()}
        else:
            tensors = {name: tensor.to_torch().clone() for name, tensor in raw.items()}
        self.model = dict(self.to_native(tensors, checkpoint))

    def reload(self, checkpoint: Path) -> None:
        """Convert another checkpoint."""
        self.load(checkpoint)

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield what the conversion has given."""
        for name, tensor in self.model.items():
            yield f"0/{name}", tensor

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Convert back."""
        yield from self.from_native(dict(self.model)).items()

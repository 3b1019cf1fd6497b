"""The errors that the patch itself raises."""

from collections.abc import Iterator, Sequence
from typing import Any

from mtp_checkpoint.errors import LayoutError
from mtp_checkpoint.messages import listed


class UnsupportedRelease(RuntimeError):  # noqa: N818  (it says what is wrong, as KeyboardInterrupt does)
    """The installed release of Megatron-Bridge is neither one to patch nor one that needs no patch."""


class SharedWeightsError(ValueError):
    """Copies of a weight that the checkpoint has once differ between MTP layers, as after training."""


class IncompleteLoadError(LayoutError):
    """A checkpoint lacks what the model needs; nothing has been loaded.

    Attributes:
        problems: What is wrong, counted, with the first few names of each.
        missing: Keys that parameters need and the checkpoint lacks.
        unmapped: Parameters that the bridge has no mapping of.
        unused: Keys that no parameter takes.
    """

    def __init__(
        self, checkpoint: str, missing: Sequence[str], unmapped: Sequence[str], unused: Sequence[str]
    ) -> None:
        super().__init__(checkpoint, list(_problems(missing, unmapped, unused)))
        self.missing, self.unmapped, self.unused = tuple(missing), tuple(unmapped), tuple(unused)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.checkpoint, self.missing, self.unmapped, self.unused)


def _problems(missing: Sequence[str], unmapped: Sequence[str], unused: Sequence[str]) -> Iterator[str]:
    if missing:
        yield f"parameters need what is not there: {listed(missing)}"
    if unmapped:
        yield f"the bridge has no mapping of parameters: {listed(unmapped)}"
    if unused:
        yield f"no parameter takes: {listed(unused)}"

"""The errors that the patch itself raises."""

from collections import Counter
from collections.abc import Iterator, Sequence

from mtp_checkpoint.layouts.keys import Place, parse
from mtp_checkpoint.messages import listed


class UnsupportedRelease(RuntimeError):  # noqa: N818  (it says what is wrong, as KeyboardInterrupt does)
    """The installed release of Megatron-Bridge is neither one to patch nor one that needs no patch."""


class SharedWeightsError(ValueError):
    """Copies of a weight that the checkpoint has once differ between MTP layers, as after training."""


class UnsupportedConfigError(ValueError):
    """The checkpoint's `config.json` asks for what its model cannot be; nothing is loaded."""


class IncompleteLoadError(ValueError):
    """Checkpoint and model do not fit each other; nothing has been loaded.

    Attributes:
        checkpoint: What messages call the checkpoint: its path, for example.
        missing: Keys that parameters need and the checkpoint lacks.
        unmapped: Parameters that the bridge has no mapping of, whatever the checkpoint holds.
        unused: Keys that no parameter takes.
        problems: All of these, counted, with the first few names of each.
    """

    def __init__(
        self, checkpoint: str, missing: Sequence[str], unmapped: Sequence[str], unused: Sequence[str]
    ) -> None:
        super().__init__(checkpoint, missing, unmapped, unused)
        self.checkpoint = checkpoint
        self.missing, self.unmapped, self.unused = tuple(missing), tuple(unmapped), tuple(unused)
        self.problems = (*_prefixes(missing, unused), *_problems(missing, unmapped, unused))

    def __str__(self) -> str:
        lines = [f"{self.checkpoint} cannot be loaded whole:", *(f"  {text}" for text in self.problems)]
        if self.missing:
            lines.append("Take a checkpoint of this very model, or complete it (its index too).")
        if self.unmapped:
            lines.append(
                "The bridge has no mapping of some parameters, which is no fault of the checkpoint: "
                "take a release of Megatron-Bridge that has."
            )
        lines.append("With mtp_bridge_patch.loading(strict=False), what is not found stays as initialized.")
        return "\n".join(lines)


def _prefixes(missing: Sequence[str], unused: Sequence[str]) -> Iterator[str]:
    """Say where keys are there that begin in another way than parameters want them to."""
    there: dict[Place, str] = {}
    for key in unused:
        place = parse(key)
        there.setdefault(place._replace(root=""), place.root)
    begin: Counter[tuple[str, str]] = Counter()
    for key in missing:
        place = parse(key)
        if (root := there.get(place._replace(root=""))) is not None and root != place.root:
            begin[root, place.root] += 1
    for (found, wanted), count in begin.items():
        yield (
            f"{count} keys begin with {found}, where the model's begin with {wanted}: rename them, or name "
            "their class in config.json (architectures)"
        )


def _problems(missing: Sequence[str], unmapped: Sequence[str], unused: Sequence[str]) -> Iterator[str]:
    if missing:
        yield f"parameters need what is not there: {listed(missing)}"
    if unmapped:
        yield f"the bridge has no mapping of {listed(unmapped, noun='parameter')}"
    if unused:
        yield f"no parameter takes: {listed(unused)}"

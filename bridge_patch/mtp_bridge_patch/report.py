"""What is known of a checkpoint's routed experts, and what is wrong with them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtp_bridge_patch.expert_layout import ExpertLayout


class LayoutError(ValueError):
    """The keys of a checkpoint contradict each other, or its config, about its experts.

    Attributes:
        problems: All that is wrong; the message lists them.
    """

    def __init__(self, checkpoint: str, problems: Sequence[str]) -> None:
        super().__init__(checkpoint, problems)
        self.checkpoint = checkpoint
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"{self.checkpoint} is inconsistent:", *(f"  {problem}" for problem in self.problems)]
        lines.append("Write the checkpoint anew, or correct its keys (those of the index too) or its config.")
        return "\n".join(lines)


@dataclass(frozen=True)
class LayoutReport:
    """The layout of a checkpoint's routed experts.

    Attributes:
        checkpoint: What messages call it: its path, for example.
        decoder: Layout of each decoder layer that has routed experts, by number.
        mtp: Layout of each MTP layer, by number; ABSENT for one without routed experts.
        num_experts: Routed experts of a layer, as the tensors have it; None if there are none, or if only
            keys of packed experts are known.
        mtp_layers_declared: As the config says; None without a config.
        dtypes: How many tensors there are of each dtype; empty if only keys are known.
        float32: How many F32 tensors there are, by what follows the layer's number in their names.
        problems: All that is wrong.
    """

    checkpoint: str
    decoder: Mapping[int, ExpertLayout]
    mtp: Mapping[int, ExpertLayout]
    num_experts: int | None
    mtp_layers_declared: int | None
    dtypes: Mapping[str, int]
    float32: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def decoder_layout(self) -> ExpertLayout:
        """Layout of the decoder's routed experts; ABSENT if there are none."""
        return _common(self.decoder)

    @property
    def mtp_layout(self) -> ExpertLayout:
        """Layout of the MTP layers' routed experts; ABSENT if there are none."""
        return _common(self.mtp)

    @property
    def mtp_layers_found(self) -> int:
        """Number of MTP layers of which there are tensors."""
        return len(self.mtp)

    def __str__(self) -> str:
        """Return the report as lines of text."""
        experts = "" if self.num_experts is None else f", {self.num_experts} experts"
        declared = "" if self.mtp_layers_declared is None else f", {self.mtp_layers_declared} declared"
        lines = [
            self.checkpoint,
            f"  decoder  {_experts(self.decoder)}{experts}",
            f"  MTP      {_layers(self.mtp_layers_found)}{declared}, {_experts(self.mtp)}",
        ]
        if self.dtypes:
            lines.append(
                f"  dtypes   {', '.join(f'{count} {dtype}' for dtype, count in self.dtypes.items())}"
            )
        if self.float32:
            names = ", ".join(f"{name} ({count})" for name, count in self.float32.items())
            lines.append(f"  F32      {names}")
        lines += [f"  problem  {problem}" for problem in self.problems] or ["  consistent"]
        return "\n".join(lines)

    def require_consistent(self) -> "LayoutReport":
        """Return the report.

        Raises:
            LayoutError: Something is wrong; it lists everything.
        """
        if self.problems:
            raise LayoutError(self.checkpoint, self.problems)
        return self

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        common = {"decoder_layout": self.decoder_layout, "mtp_layout": self.mtp_layout}
        return {**asdict(self), **common, "mtp_layers_found": self.mtp_layers_found}


def _layers(number: int) -> str:
    return f"{number} layer{'s' * (number != 1)}"


def _experts(layouts: Mapping[int, ExpertLayout]) -> str:
    """Say in which layouts routed experts are stored, and in how many layers each."""
    counts = Counter(layout for layout in layouts.values() if layout is not ExpertLayout.ABSENT)
    return ", ".join(f"{layout} in {_layers(n)}" for layout, n in counts.items()) or "no routed experts"


def _common(layouts: Mapping[int, ExpertLayout]) -> ExpertLayout:
    """Return the layout of most layers: of all, where the report is consistent."""
    return Counter(layouts.values()).most_common(1)[0][0] if layouts else ExpertLayout.ABSENT

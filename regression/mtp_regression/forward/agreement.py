"""How near the logits of two implementations are, and how near is the same computation.

Both compute in float32, in another order of sums. Over the presets' tiny models the largest difference is
6e-6 to 5e-5 of the reference's spread (its standard deviation). A wrong field of the configuration moves the
logits by 0.6 and more, a wrong connection by 0.08 and more (`nox -s forward` prints all figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from mtp_regression.comparison.verdicts import Finding, Verdict

BOUND = 2e-3
"""Of the spread: 40 times what float32 explains, and a 40th of the weakest mistake."""


@dataclass(frozen=True)
class Computed:
    """What the reference computes of a batch.

    Attributes:
        logits: Float32 [batch, sequence, vocabulary], by name: "main", and "mtp.{i}" for each MTP layer.
        decided: Bool [batch, sequence]: whether no router, up to this position, had to choose between experts
            that are as good as equal. From there on implementations may differ without being wrong.
    """

    logits: Mapping[str, torch.Tensor]
    decided: torch.Tensor

    @property
    def positions(self) -> int:
        """Number of positions that can be compared."""
        return int(self.decided.sum())


def differences(reference: Computed, found: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the largest difference, of the reference's spread, by name.

    A NaN and another shape count as infinity.

    Args:
        reference: What is compared with.
        found: Logits by name; more columns than the vocabulary has are padding. What is not there is left
            out.
    """
    return {
        name: _difference(expected, found[name], reference.decided)
        for name, expected in reference.logits.items()
        if name in found
    }


def _difference(expected: torch.Tensor, found: torch.Tensor, decided: torch.Tensor) -> float:
    found = found[..., : expected.shape[-1]]
    if found.shape != expected.shape:
        return float("inf")
    largest = ((found - expected).abs()[decided].max() / expected[decided].std()).item()
    return largest if largest == largest else float("inf")


def disagreements(reference: Computed, measured: Mapping[str, float]) -> Iterator[Finding]:
    """Yield what differs by more than the bound, and what is not there.

    Args:
        reference: What was compared with.
        measured: The differences, by name.
    """
    for name in reference.logits:
        if name not in measured:
            yield Finding(f"logits: {name}", Verdict.MISSING, "the bridge's model computes none")
        elif measured[name] > BOUND:
            detail = f"differ by {measured[name]:.2g} of their spread; float32 explains less than {BOUND}"
            yield Finding(f"logits: {name}", Verdict.DIFFERS, detail)

"""A language that is drawn: each token depends on the two before it, and its entropy is known."""

from __future__ import annotations

import torch

SYMBOLS = 12
_SHARPNESS = 3.0
_FORGOTTEN = 20
"""Tokens before those that are drawn, so that the first ones are as likely as later ones."""


class Language:
    """A Markov chain of second order over the tokens 0 to `SYMBOLS` - 1.

    Attributes:
        probabilities: Float32 [symbol before, last symbol, next symbol].
    """

    def __init__(self, seed: int = 0) -> None:
        """Draw one; another seed gives another language."""
        scores = torch.randn(SYMBOLS, SYMBOLS, SYMBOLS, generator=torch.Generator().manual_seed(seed))
        self.probabilities = (_SHARPNESS * scores).softmax(dim=-1)

    @property
    def entropy(self) -> float:
        """Nats a token: the least mean loss of a model that knows the two tokens before."""
        pairs = torch.full((SYMBOLS, SYMBOLS), 1 / SYMBOLS**2, dtype=torch.float64)
        steps = self.probabilities.double()
        for _ in range(1000):
            pairs = torch.einsum("ab,abc->bc", pairs, steps)
        return -float(torch.einsum("ab,abc->", pairs, torch.special.xlogy(steps, steps)))

    def draw(self, rows: int, length: int, seed: int) -> torch.Tensor:
        """Draw tokens [rows, length], int64."""
        source = torch.Generator().manual_seed(seed)
        tokens = torch.randint(SYMBOLS, (rows, _FORGOTTEN + length), generator=source)
        for place in range(2, _FORGOTTEN + length):
            following = self.probabilities[tokens[:, place - 2], tokens[:, place - 1]]
            tokens[:, place] = torch.multinomial(following, 1, generator=source)[:, 0]
        return tokens[:, _FORGOTTEN:].contiguous()

"""How a rank's parameter is made from a checkpoint, as a recipe that is followed when it is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mtp_regression.oracle.shards import Array, Share
from mtp_regression.oracle.source import Source

Recipe = Callable[[], Array]
"""Makes the BF16 value of one parameter; raises `AbsentError` where the checkpoint lacks it."""

Recipes = Iterator[tuple[str, Recipe]]
"""Names of parameters, with the recipe of each."""


@dataclass(frozen=True)
class ShardedSource:
    """A checkpoint whose weights ranks share, as one of them sees it: gives recipes of its parameters.

    Attributes:
        source: The checkpoint.
        share: The rank's share of a weight.
    """

    source: Source
    share: Share

    def whole(self, key: str) -> Recipe:
        """Take a tensor that every rank holds whole."""
        return lambda: self.source.weight(key)

    def column_parallel(self, *keys: str) -> Recipe:
        """Take the rank's block of rows of each tensor."""
        return self.cut(lambda: [self.source.weight(key) for key in keys])

    def row_parallel(self, key: str) -> Recipe:
        """Take the rank's block of a tensor's columns."""
        return lambda: self.share.row_parallel(self.source.weight(key))

    def cut(self, parts: Callable[[], Iterable[Array]]) -> Recipe:
        """Take the rank's block of rows of each part that a function gives."""
        return lambda: self.share.column_parallel(*parts())


def prefixed(prefix: str, recipes: Recipes) -> Recipes:
    """Put a module's name before the names of its parameters."""
    for name, recipe in recipes:
        yield prefix + name, recipe

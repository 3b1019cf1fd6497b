"""Recipes: functions that compute one parameter of a rank from a checkpoint.

A recipe is called when its parameter is compared, so that only one is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mtp_regression.oracle.shards import Array, Share
from mtp_regression.oracle.source import Source

Recipe = Callable[[], Array]
"""Returns the value of one parameter on the rank: BF16, in the parameter's shape.

Raises `AbsentError` if the checkpoint does not have the tensor, `ValueError` if the ranks do not divide it.
"""

Recipes = Iterator[tuple[str, Recipe]]
"""Pairs of parameter name and recipe."""


@dataclass(frozen=True)
class ShardedSource:
    """A checkpoint as one rank reads it; each method returns the recipe of one parameter.

    Attributes:
        source: The checkpoint.
        share: Which of the equal blocks of a weight the rank has.
    """

    source: Source
    share: Share

    def whole(self, key: str) -> Recipe:
        """Take a tensor of any shape that is whole on every rank."""
        return lambda: self.source.weight(key)

    def column_parallel(self, *keys: str) -> Recipe:
        """Take the rank's block of rows of each tensor, concatenated; see `Share.column_parallel`."""
        return self.cut(lambda: [self.source.weight(key) for key in keys])

    def row_parallel(self, key: str) -> Recipe:
        """Take the rank's block of columns of a tensor [outputs, inputs]; see `Share.row_parallel`."""
        return lambda: self.share.row_parallel(self.source.weight(key))

    def cut(self, parts: Callable[[], Iterable[Array]]) -> Recipe:
        """Do as `column_parallel`, for the arrays that `parts` returns, BF16 [rows, ...] each."""
        return lambda: self.share.column_parallel(*parts())


def prefixed(prefix: str, recipes: Recipes) -> Recipes:
    """Add a prefix, such as "mlp.", to every name."""
    for name, recipe in recipes:
        yield prefix + name, recipe
